/** The private server itself: everything else in tests/ stands on it. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { spawn } from "node:child_process";
import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { type Cluster, sharedCluster, startCluster, temporaryDirectory } from "./support/cluster.ts";

const WAIT_MS = 30_000;

setDefaultTimeout(120_000);

test("a fresh database answers through psql, each statement on its own", async () => {
  const cluster = await sharedCluster();
  const database = await cluster.createDatabase();
  expect(await cluster.psql(database, "SELECT current_database();\nVACUUM;\nSELECT 1 + 1")).toBe(`${database}\n2`);
});

test("an error in SQL is thrown with the server's words", async () => {
  const cluster = await sharedCluster();
  await expect(cluster.psql("postgres", "SELECT * FROM nowhere")).rejects.toThrow('relation "nowhere" does not exist');
});

test("a URL names the socket's folder, and survives every character of a password", async () => {
  const cluster = await sharedCluster();
  const url = new URL(cluster.url("a b", { user: "me", password: "p@:/?#% ü", parameters: { schema: "s" } }));
  expect(url.searchParams.get("host")).toBe(cluster.directory);
  expect(url.searchParams.get("schema")).toBe("s");
  expect(decodeURIComponent(url.password)).toBe("p@:/?#% ü");
  expect(decodeURIComponent(url.pathname)).toBe("/a b");
  expect(Buffer.byteLength(join(cluster.directory, ".s.PGSQL.5432"))).toBeLessThan(60);
});

test("settings, files, hba lines, TCP and passwords are the server's", async () => {
  const cluster = await startCluster({
    settings: { log_line_prefix: "it's " },
    auth: "scram-sha-256",
    password: "p@ss word",
    hba: ["local all guest trust"],
    files: { "server.key": "secret" },
    tcp: true,
  });
  try {
    expect(cluster.host).toBe("127.0.0.1");
    expect(cluster.url("postgres")).toBe(`postgresql://postgres:p%40ss%20word@127.0.0.1:${cluster.port}/postgres`);
    expect(await cluster.psql("postgres", "SHOW log_line_prefix; SHOW fsync; SHOW data_checksums")).toBe(
      "it's \noff\noff",
    );
    await cluster.psql("postgres", "CREATE ROLE other LOGIN PASSWORD 'x'");
    await expect(cluster.psql("postgres", "SELECT 1", "other")).rejects.toThrow("no password supplied");
    expect(statSync(join(cluster.directory, "data", "server.key")).mode & 0o777).toBe(0o600);
  } finally {
    await cluster.remove();
  }
  expect(existsSync(cluster.directory)).toBe(false);
});

test("a server can be stopped, started, and killed, and keeps what was committed", async () => {
  const cluster = await startCluster();
  try {
    await cluster.psql("postgres", "CREATE TABLE kept (id int)");
    await cluster.stop();
    expect(cluster.pid).toBeUndefined();
    await expect(cluster.psql("postgres", "SELECT 1")).rejects.toThrow("No such file or directory");
    await cluster.start();
    const { pid } = cluster;
    if (pid === undefined) throw new Error("a started server has a process id");
    process.kill(pid, "SIGKILL");
    await waitUntil(() => cluster.pid === undefined);
    await cluster.start();
    expect(await cluster.psql("postgres", "SELECT count(*) FROM kept")).toBe("0");
  } finally {
    await cluster.remove();
  }
});

test("a setting that the server refuses is an error with the server's log, not a hang", async () => {
  await expect(startCluster({ settings: { no_such_setting: "1" } })).rejects.toThrow(
    'unrecognized configuration parameter "no_such_setting"',
  );
});

for (const signal of ["SIGTERM", "SIGINT", "SIGKILL"] as const) {
  test(`nothing is left behind by a process that ${signal} ends`, async () => {
    const script = `
      import { startCluster, temporaryDirectory } from "./private-cluster.ts";
      const cluster = await startCluster();
      console.log(JSON.stringify([cluster.pid, cluster.directory, temporaryDirectory()]));
      setInterval(() => {}, 1000);`;
    const directory = join(import.meta.dirname, "..", "scripts", "support");
    const child = spawn(process.execPath, ["-e", script], { cwd: directory, stdio: ["ignore", "pipe", "inherit"] });
    const line = await new Promise<string>((resolve) => child.stdout.once("data", (data) => resolve(String(data))));
    const [pid, ...directories] = JSON.parse(line) as [number, string, string];
    expect(isAlive(pid)).toBe(true);
    child.kill(signal);
    await waitUntil(() => !isAlive(pid) && directories.every((path) => !existsSync(path)));
  });
}

test("a temporary directory exists, is empty, and is another one each time", () => {
  const [first, second] = [temporaryDirectory(), temporaryDirectory()];
  expect(first).not.toBe(second);
  expect(statSync(first).isDirectory()).toBe(true);
});

test("files of one run share the cluster", async () => {
  const [first, second]: Cluster[] = await Promise.all([sharedCluster(), sharedCluster()]);
  expect(first).toBe(second as Cluster);
});

/** A zombie, which nobody may collect in a container, is not alive. */
function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return !existsSync("/proc/self/status") || !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

async function waitUntil(isTrue: () => boolean): Promise<void> {
  const deadline = performance.now() + WAIT_MS;
  while (!isTrue()) {
    if (performance.now() > deadline) throw new Error("it did not happen in time");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
