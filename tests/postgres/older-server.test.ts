/**
 * A server that is older than the client tools, as an image's `postgresql-client` often is: what these write in front of
 * every dump is a setting that no server before 17 knows. Skipped where the tools themselves are older than 17.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { UNKNOWN_SETTING } from "../../lib/backup/unknown-setting.ts";
import { DeployError } from "../../lib/errors.ts";
import { findClientTool } from "../../scripts/support/postgres-binaries.mjs";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { differenceOf, expectRestored, type FailedDeploy, failDeploy } from "../support/failed-deploy.ts";
import { installServer } from "../support/npm-server.ts";
import { makeProject, runDeploy } from "../support/project.ts";
import {
  beginDeploy,
  createNasty,
  createRoles,
  DAMAGE,
  DATABASE_DAMAGE,
  type DeployOptions,
  type NastyOptions,
  readState,
  runInstructions,
} from "../support/restore.ts";

const DEADLINE_MS = 120_000;
const FORMATS = ["plain", "custom"] as const;
const USERS = ["postgres", "app_owner"] as const;
/** More than what a single session restores. */
const LARGE_TABLE = `SET ROLE app_owner; CREATE TABLE public.large AS SELECT number,
  ARRAY(SELECT gen_random_uuid() FROM generate_series(1, 50) WHERE number > 0) AS numbers FROM generate_series(1, 18000) AS number`;

const TOOL_MAJOR = findClientTool("pg_dump")?.major ?? 0;
const server = TOOL_MAJOR >= 17 ? installServer(16) : { missing: "pg_dump is older than 17" };
if ("missing" in server) console.log(`older-server.test.ts: skipped, ${server.missing}`);

let cluster: Cluster;

beforeAll(async () => {
  if ("missing" in server) return;
  cluster = await startCluster({ binDirectory: server.directory, settings: { autovacuum: "off" } });
  await createRoles(cluster);
}, DEADLINE_MS);

afterAll(async () => await cluster?.remove());

/** With nothing that the tools can only write for a server of their own kind, see the last test. */
async function createRestorable(options: NastyOptions = {}): Promise<string> {
  const name = await createNasty(cluster, options);
  if (TOOL_MAJOR >= 18) await cluster.psql(name, "ALTER TABLE app.both ALTER a DROP NOT NULL");
  return name;
}

async function fail(name: string, options: DeployOptions): Promise<FailedDeploy> {
  const deploy = await failDeploy(cluster, name, { damage: [DAMAGE, DATABASE_DAMAGE], ...options });
  expect(deploy.tools.pgDump.major).toBeGreaterThanOrEqual(17);
  return deploy;
}

async function allowCreatedb(isAllowed: boolean): Promise<void> {
  await cluster.psql("postgres", `ALTER ROLE app_owner ${isAllowed ? "" : "NO"}CREATEDB`);
}

describe.skipIf("missing" in server)("everything is as it was", () => {
  describe.each(USERS)("as %s", (user) => {
    test.each(FORMATS)(
      "in place, from a backup that is %s",
      async (format) => {
        const deploy = await fail(await createRestorable({ oddNames: true }), { user, format });
        await deploy.restore();
        await expectRestored(deploy);
      },
      DEADLINE_MS,
    );

    test.each([...FORMATS, "custom, by several sessions"] as const)(
      "by a swap, from a backup that is %s",
      async (kind) => {
        await allowCreatedb(true);
        const name = await createRestorable({ oddNames: true });
        if (kind.includes("several")) await cluster.psql(name, LARGE_TABLE);
        const format = kind === "plain" ? "plain" : "custom";
        const deploy = await fail(name, { user, format, restore: "auto" });
        expect(deploy.plan.rungs).toContain("swap");
        await deploy.swap();
        await expectRestored(deploy);
        await allowCreatedb(false);
      },
      DEADLINE_MS,
    );
  });

  test.each(FORMATS)(
    "by the commands for a person, from a backup that is %s",
    async (format) => {
      const deploy = await fail(await createRestorable(), { user: "postgres", format });
      await deploy.session.close();
      await runInstructions(deploy);
      // Extensions belong to whom restores them.
      const ignored = /^[+-] (ALTER EXTENSION|extension\|)/;
      const difference = differenceOf(await readState(cluster, deploy.name), deploy.before);
      expect(difference.filter((line) => !ignored.test(line))).toEqual([]);
    },
    DEADLINE_MS,
  );
});

describe.skipIf("missing" in server)("a dump that somebody else has made", () => {
  async function makeDumped(owner: string): Promise<{ name: string; path: string }> {
    const name = await cluster.createDatabase({ owner });
    await cluster.psql(name, `SET ROLE ${owner}; CREATE TABLE t(a text); INSERT INTO t VALUES ('${UNKNOWN_SETTING}')`);
    const path = join(cluster.directory, `${name}.sql`);
    const env = { PGHOST: cluster.host, PGPORT: String(cluster.port), PGUSER: "postgres", PGDATABASE: name };
    const dump = spawnSync(findClientTool("pg_dump")?.path ?? "", { env, encoding: "utf8" });
    expect(dump.status).toBe(0);
    writeFileSync(path, dump.stdout);
    await cluster.psql(name, "DROP TABLE t");
    return { name, path };
  }

  test.each(["swap", "in-place"] as const)(
    "%s: without the setting, with the row that looks like it, and the file stays what it is",
    async (rung) => {
      await allowCreatedb(rung === "swap");
      const { name, path } = await makeDumped("app_owner");
      const before = readFileSync(path, "utf8");
      expect(before.split(UNKNOWN_SETTING)).toHaveLength(3);
      const url = cluster.url(name, { user: "app_owner" });
      const args = ["restore", path, "--yes-restore", name, "--json"];
      const { exitCode, stdout, stderr } = await runDeploy(makeProject(), { url, args });
      expect(exitCode, stderr).toBe(0);
      expect(JSON.parse(stdout)).toMatchObject({ how: rung });
      expect(await cluster.psql(name, "SELECT a FROM t")).toBe(UNKNOWN_SETTING);
      expect(readFileSync(path, "utf8")).toBe(before);
      await allowCreatedb(false);
    },
    DEADLINE_MS,
  );
});

test.skipIf("missing" in server)(
  "an error that is another one fails the restore beside all the same",
  async () => {
    const name = await cluster.createDatabase();
    await cluster.psql(
      name,
      `CREATE FUNCTION public.is_here() RETURNS boolean LANGUAGE sql AS $$ SELECT current_database() = '${name}' $$;
       CREATE TABLE public.picky(a int CHECK (public.is_here())); INSERT INTO public.picky VALUES (1)`,
    );
    const deploy = await beginDeploy(cluster, name, { user: "postgres", format: "custom", restore: "auto" });
    await deploy.migrate("CREATE TABLE public.added()");
    const error = await deploy.swap().catch((cause: unknown) => cause);
    expect(error).toBeInstanceOf(DeployError);
    const { code, fields } = error as DeployError<"RESTORE_FAILED">;
    expect({ code, output: fields.output }).toEqual({
      code: "RESTORE_FAILED",
      output: "pg_restore: warning: errors ignored on restore: 2",
    });
    expect(await cluster.psql(name, "SELECT to_regclass('public.added')")).toBe("added");
  },
  DEADLINE_MS,
);

/** A column that is inherited, and that the child alone made NOT NULL. */
test.skipIf("missing" in server || TOOL_MAJOR < 18).each(["swap", "restore"] as const)(
  "what pg_dump 18 writes for no server before it: the %s fails, and all is as the failed deploy left it",
  async (rung) => {
    const name = await cluster.createDatabase();
    await cluster.psql(
      name,
      "CREATE TABLE parent(a int); CREATE TABLE child() INHERITS (parent); ALTER TABLE child ALTER a SET NOT NULL",
    );
    const deploy = await beginDeploy(cluster, name, { user: "postgres", restore: "auto" });
    await deploy.migrate("CREATE TABLE added()");
    const error = await deploy[rung]().catch((cause: unknown) => cause);
    const { code, fields } = error as DeployError<"RESTORE_FAILED">;
    expect(code).toBe("RESTORE_FAILED");
    expect(fields.output).toContain("syntax error");
    expect(await cluster.psql(name, "SELECT to_regclass('added')")).toBe("added");
  },
  DEADLINE_MS,
);
