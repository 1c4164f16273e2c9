/**
 * PostgreSQL's client tools for somebody who may install nothing: the system's own packages, fetched and checked by apt
 * and unpacked inside this folder. Only for the demo and the tests.
 */
import { chmodSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { embeddedPrefix, programsDirectory } from "./postgres-binaries.mjs";
import { run } from "./run-command.mjs";

const directory = join(embeddedPrefix, "client");
const fetched = join(directory, "cache");
const unpacked = join(directory, "unpacked");

/** Returns what the commands have said: whether the tools are there now is for the caller to see. */
export function unpackClientTools() {
  rmSync(directory, { recursive: true, force: true });
  for (const folder of ["state/lists/partial", "cache/archives/partial", "unpacked"]) {
    mkdirSync(join(directory, folder), { recursive: true });
  }
  const outputs = [
    apt("update"),
    apt("install", "-y", "--no-install-recommends", "--download-only", "postgresql-client"),
  ];
  for (const name of list(join(fetched, "archives")).filter((each) => each.endsWith(".deb"))) {
    outputs.push(run("dpkg-deb", ["--extract", join(fetched, "archives", name), unpacked]).output);
  }
  for (const folder of ["state", "cache"]) rmSync(join(directory, folder), { recursive: true, force: true });
  writePrograms();
  return outputs.filter((output) => output !== "").join("\n");
}

/** With lists and a cache of its own, which need no rights; what is installed it reads from the system. */
function apt(...args) {
  const options = {
    "Dir::State": join(directory, "state"),
    "Dir::State::status": "/var/lib/dpkg/status",
    "Dir::Cache": fetched,
    "Debug::NoLocking": "true",
  };
  return run("apt-get", [
    "-qq",
    ...Object.entries(options).flatMap(([name, value]) => ["-o", `${name}=${value}`]),
    ...args,
  ]).output;
}

/** They find their libraries beside them. The path is relative, so that the folder may be moved. */
function writePrograms() {
  const [libraries] = list(join(unpacked, "usr", "lib")).filter((name) => name.includes("-linux-gnu"));
  const [major] = list(join(unpacked, "usr", "lib", "postgresql"));
  if (major === undefined) return;
  for (const name of list(join(unpacked, "usr", "lib", "postgresql", major, "bin"))) {
    const path = join(programsDirectory, name);
    writeFileSync(
      path,
      `#!/bin/sh
lib="\${0%/*}/../../.cache/postgres/client/unpacked/usr/lib"
LD_LIBRARY_PATH="$lib/${libraries ?? ""}\${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" exec "$lib/postgresql/${major}/bin/${name}" "$@"
`,
    );
    chmodSync(path, 0o755);
  }
}

function list(path) {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
