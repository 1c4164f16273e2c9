/** The package as `npm pack` makes it, and npm where no registry is asked. */
import { spawnSync } from "node:child_process";
import { readdirSync, rmSync, symlinkSync } from "node:fs";
import { join, resolve } from "node:path";
import { temporaryDirectory } from "./cluster.ts";
import { copyRepository } from "./copy.ts";

const ROOT = resolve(import.meta.dirname, "../..");

/** Nobody listens on port 9: whoever asks a registry fails. The cache is that of HOME. */
export const OFFLINE = {
  npm_config_registry: "http://127.0.0.1:9",
  npm_config_fetch_retries: "0",
  npm_config_audit: "false",
};

/** Packed from a copy that is gone when it is used, so that nothing of it can be missed unnoticed. @returns its path */
export function packRepository(home: string): string {
  const { files } = require("../../package.json");
  const needed = ["lib", "scripts", "package.json", "LICENSE", "README.md", "bunfig.toml", ".git"];
  const copy = copyRepository([...needed, ...files.filter((path: string) => !path.startsWith("dist/"))]);
  symlinkSync(join(ROOT, "node_modules"), join(copy, "node_modules"));
  const destination = temporaryDirectory();
  const env = { PATH: process.env.PATH, HOME: home, ...OFFLINE } as NodeJS.ProcessEnv;
  const packed = spawnSync("npm", ["pack", "--pack-destination", destination], { cwd: copy, env, encoding: "utf8" });
  if (packed.status !== 0) throw new Error(`npm pack ended with ${packed.status}: ${packed.stderr}${packed.stdout}`);
  rmSync(copy, { recursive: true });
  return join(destination, readdirSync(destination)[0] as string);
}
