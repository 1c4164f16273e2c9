/** A copy of parts of this repository, for what is built there and must not miss a part that lies outside. */
import { cpSync } from "node:fs";
import { join, resolve } from "node:path";
import { temporaryDirectory } from "./cluster.ts";

const ROOT = resolve(import.meta.dirname, "../..");

export function copyRepository(paths: readonly string[]): string {
  const copy = temporaryDirectory();
  // Git's own, which come and go while another test asks for the commit.
  const filter = (path: string) => !path.endsWith(".lock");
  for (const path of paths) cpSync(join(ROOT, path), join(copy, path), { recursive: true, filter });
  return copy;
}
