/**
 * The ways back that exit 6 prints, for every role and under every policy: what is said of them is what happens when a
 * person runs them.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { type Client, openClient } from "../support/client.ts";
import { type Cluster, sharedCluster, startCluster } from "../support/cluster.ts";
import { makeFlagPath, readAtGate, waitForFile } from "../support/gate.ts";
import { follow, readCommands } from "../support/printed-commands.ts";
import { type DeployRun, makeProject, type Project, runDeploy, startDeploy, until } from "../support/project.ts";

setDefaultTimeout(300_000);

const HALF = "INSERT INTO own VALUES (2);\nCREATE TABLE half (id int);\nCOMMIT;\nSELECT 1 / 0;\n";
const POLICIES = ["auto", "never", "in-place"] as const;
const ROLES = ["a superuser", "an owner with CREATEDB", "an owner without", "a guest"] as const;
type Role = (typeof ROLES)[number];

interface Failed {
  readonly cluster: Cluster;
  readonly database: string;
  readonly url: string;
  readonly project: Project;
  readonly run: DeployRun;
  readonly client: Client;
}

/** Half applied, while a client was connected, who has written afterwards. Of the same role, he has left then. */
async function failAs(
  role: Role,
  policy: (typeof POLICIES)[number],
  as: "the same role" | "another role" = "the same role",
): Promise<Failed> {
  const cluster = await sharedCluster();
  const user = role === "a superuser" ? cluster.superuser : `role_${randomBytes(4).toString("hex")}`;
  const right = role === "an owner with CREATEDB" ? "CREATEDB" : "NOCREATEDB";
  if (user !== cluster.superuser) await cluster.psql("postgres", `CREATE ROLE ${user} LOGIN ${right}`);
  const database = await cluster.createDatabase(role === "a guest" ? {} : { owner: user });
  await cluster.psql(database, `GRANT ALL ON SCHEMA public TO ${user}`);
  const url = cluster.url(database, { user });
  const project = makeProject({ "1_own": "CREATE TABLE own (id int);\nINSERT INTO own VALUES (1);\n" });
  const first = await runDeploy(project, { url });
  expect(first.exitCode, first.stderr).toBe(0);
  if (role === "a guest") await cluster.psql(database, `CREATE TABLE theirs (id int); GRANT ALL ON theirs TO ${user}`);
  project.add("2_half", HALF);
  const other = `role_${randomBytes(4).toString("hex")}`;
  if (as === "another role")
    await cluster.psql(database, `CREATE ROLE ${other} LOGIN; GRANT INSERT ON own TO ${other}`);
  const client = await openClient(cluster, database, as === "another role" ? other : user);
  const run = await runDeploy(project, { url, args: ["--restore", policy, "--accept-manual-restore"] });
  expect(run.exitCode, run.stderr).toBe(6);
  await client.run("INSERT INTO own VALUES (3)");
  if (as === "the same role") await client.end();
  return { cluster, database, url, project, run, client };
}

async function readKept({ cluster, database }: Failed): Promise<string> {
  return await cluster.psql(
    "postgres",
    `SELECT datname FROM pg_database WHERE datname LIKE '${database}\\_failed\\_%'`,
  );
}

/** As before the deploy; the one that was replaced has all that was written. */
async function expectSwapped(failed: Failed): Promise<void> {
  const { cluster, database } = failed;
  expect(await cluster.psql(database, "SELECT id, to_regclass('half') FROM own")).toBe("1|");
  const kept = await readKept(failed);
  await cluster.psql("postgres", `ALTER DATABASE "${kept}" ALLOW_CONNECTIONS true`);
  expect(await cluster.psql(kept, "SELECT count(*) FROM own, half")).toBe("0");
  expect(await cluster.psql(kept, "SELECT string_agg(id::text, ' ' ORDER BY id) FROM own")).toBe("1 2 3");
}

for (const role of ROLES) {
  test.each(POLICIES)(`${role}, --restore=%s: the command does what is said of it`, async (policy) => {
    const failed = await failAs(role, policy);
    const { cluster, database, project, run } = failed;
    const [, id = ""] = / deploy restore (backup_\S+) --yes-restore /.exec(run.stderr) ?? [];
    const isImpossible = role === "a guest";
    // The guest's is for another role.
    const url = isImpossible ? cluster.url(database) : failed.url;
    expect(run.stderr).toContain(`deploy restore ${id} --yes-restore ${database}\n`);
    expect(run.stderr.includes("사라지는 것은 없습니다")).toBe(role.endsWith("superuser") || role.endsWith("CREATEDB"));
    expect(run.stderr.includes("쓴 내용은 모두 사라집니다")).toBe(role === "an owner without");
    expect(run.stderr.includes("deploy restore 명령으로는 지금 되돌릴 수 없습니다")).toBe(isImpossible);

    const args = ["restore", id, "--yes-restore", database];
    if (isImpossible) {
      const refused = await runDeploy(project, { url: failed.url, args });
      expect(refused.exitCode, refused.stderr).toBe(4);
      const [, reasons = "-"] = /복원할 수 없음\n((?: {3}(?!상태).*\n)+)/.exec(refused.stderr) ?? [];
      for (const reason of reasons.trim().split("\n")) expect(run.stderr).toContain(reason.trim());
      expect(reasons).toContain("ALTER DATABASE ... OWNER TO");
    }
    const restored = await runDeploy(project, { url, args });
    expect(restored.exitCode, restored.stderr).toBe(0);
    if (role !== "an owner without") return await expectSwapped(failed);
    expect(await cluster.psql(database, "SELECT id, to_regclass('half') FROM own")).toBe("1|");
    expect(await readKept(failed)).toBe("");
  });
}

test.each(ROLES.slice(1))(
  "the commands of PostgreSQL's tools work for %s, or for a role that is asked for",
  async (role) => {
    const failed = await failAs(role, "auto");
    const { cluster, run, database } = failed;
    const isDenied = role !== "an owner with CREATEDB";
    expect(run.stderr.includes("지금의 역할과 상태로는 실행할 수 없습니다:")).toBe(isDenied);
    expect(run.stderr.includes("ALTER ROLE ... CREATEDB")).toBe(isDenied);
    const commands = readCommands(run);
    expect(commands.some((line) => line.includes("read -r PGUSER"))).toBe(isDenied);
    const owner = `SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = '${database}'`;
    const before = await cluster.psql("postgres", owner);
    follow(commands, isDenied ? `${cluster.superuser}\n` : "");
    await expectSwapped(failed);
    expect(await cluster.psql("postgres", owner)).toBe(before);
  },
);

test("the server is gone for good: both ways are told all the same, and nothing that is not known", async () => {
  const cluster = await startCluster();
  const database = await cluster.createDatabase();
  const flag = makeFlagPath(cluster);
  const project = makeProject({ "1_half": `CREATE TABLE half (id int);\nCOMMIT;\n${waitForFile(flag)}` });
  const running = startDeploy(project, { url: cluster.url(database), args: ["--lang", "en"] });
  await until("the script stands at the gate", async () => (await readAtGate(cluster, database)) !== "");
  await cluster.stop("immediate");
  const run = await running.ended;
  expect(run.exitCode, run.stderr).toBe(6);
  expect(run.stderr).toMatch(/^ +deploy restore backup_\S+$/m);
  expect(run.stderr).toMatch(/^ +Backup \S+ \S+, expected time: about \S+$/m);
  expect(run.stderr).toContain("Rows written since the backup: not known");
  expect(run.stderr).toContain("Whether the present database is kept is not known");
  expect(run.stderr).toContain("To see which migrations are unfinished: deploy status");
  expect(run.stderr).toContain("Whether this role has the rights for it is not known.");
  expect(readCommands(run)[0]).toStartWith("export PGHOST=");
  await cluster.remove();
});

test("where somebody is connected whom the role can't end, it is told, and true", async () => {
  const failed = await failAs("an owner with CREATEDB", "auto", "another role");
  const { cluster, database, url, project, run, client } = failed;
  expect(run.stderr).toContain("사라지는 것은 없습니다");
  expect(run.stderr).toContain(
    "끊을 수 없는 접속이 있습니다 (pg_signal_backend).\n           그 접속이 끝난 뒤에 실행하십시오.",
  );
  expect(readCommands(run)[1]).toBe("read -r PGUSER; export PGUSER");
  const restore = () => runDeploy(project, { url, args: ["restore", "latest", "--yes-restore", database] });
  const refused = await restore();
  expect(refused.exitCode, refused.stderr).toBe(5);
  expect(refused.stderr).toContain("끊을 수 없는 접속이 있습니다 (pg_signal_backend).");
  expect(await cluster.psql(database, "SELECT count(*) FROM own")).toBe("3");
  await client.end();
  const restored = await restore();
  expect(restored.exitCode, restored.stderr).toBe(0);
  await expectSwapped(failed);
});

test("where somebody can't be ended the tools change nothing, and the door stays open", async () => {
  const failed = await failAs("an owner with CREATEDB", "never");
  const { cluster, database, run } = failed;
  const [user, other] = [new URL(failed.url).username, `role_${randomBytes(4).toString("hex")}`];
  await cluster.psql("postgres", `CREATE ROLE ${other} LOGIN`);
  const client = await openClient(cluster, database, other);
  const commands = readCommands(run);
  expect(() => follow(commands)).toThrow();
  expect(await cluster.psql(database, "SELECT count(*) FROM own")).toBe("3");
  expect(await readKept(failed)).toBe("");
  // The right that the server asks for.
  await cluster.psql("postgres", `GRANT pg_signal_backend TO ${user}`);
  follow(commands.filter((line) => line.startsWith("export PGHOST=") || line.includes("RENAME TO")));
  await expectSwapped(failed);
  await client.end().catch(() => {});
});
