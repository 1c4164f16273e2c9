/**
 * What must hold: a project may change between the real Prisma CLI and `deploy` at any moment. A random walk over what
 * people and both tools do; after each step both tools read the same story in the database, and the rows are Prisma's.
 *
 * The seed is printed: `SEED=... bun test tests/postgres/prisma-alternation.test.ts` repeats a walk, `LONG=1` walks on.
 */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { makeChecksum } from "../../lib/migrations/checksum.ts";
import type { Status } from "../../lib/migrations/status.ts";
import { type Cluster, sharedCluster } from "../support/cluster.ts";
import {
  listMigrations,
  type PrismaAnswer,
  type PrismaProject,
  preparePrismaProject,
  skipsPrisma,
  writeMigrations,
} from "../support/prisma-cli.ts";
import {
  ENGINES,
  type Engine,
  endBackends,
  makeTools,
  outcomeOf,
  type Tool,
  type Tools,
} from "../support/prisma-side.ts";
import { expectPrismaStatus, parsePrismaStatus, sortNames } from "../support/prisma-status.ts";
import { until } from "../support/project.ts";

setDefaultTimeout(7_200_000);

const LONG = process.env.LONG === "1";
const STEPS = LONG ? 250 : 25;
const SEED = Number(process.env.SEED ?? Math.floor(Math.random() * 1e9));
/** The start of the CLI takes a second, and many where the machine is busy. */
const ASLEEP_DEADLINE_MS = 300_000;
const isSkipped = skipsPrisma("prisma-alternation.test.ts");

/** With one version of Prisma a walk, chosen by the seed, or with both. */
const WALKED = LONG ? ENGINES : ENGINES.filter((_, index) => index === SEED % ENGINES.length);

describe.skipIf(isSkipped).each([...WALKED])("Prisma $name and deploy by turns", (engine) => {
  test(`${STEPS} steps`, async () => {
    const seed = SEED + engine.version;
    console.log(`prisma-alternation.test.ts: ${engine.name}, SEED=${SEED}`);
    const walk = await makeWalk(engine, makeRandom(seed));
    const trail: string[] = [];
    for (let step = 1; step <= STEPS; step++) {
      const { name, run } = walk.choose();
      trail.push(name);
      try {
        await run();
        await walk.check();
      } catch (cause) {
        throw new Error(`SEED=${SEED}, step ${step} of ${engine.name}: ${trail.join("; ")}`, { cause });
      }
    }
    // A walk that only ever waits would prove nothing.
    expect(walk.deployed()).toBeGreaterThan(0);
  });

  test.each([
    ["prisma", "deploy"],
    ["deploy", "prisma"],
  ] as const)("%s at work: %s waits, and finds nothing left to do", async (first, second) => {
    const world = await makeWorld(engine);
    writeMigrations(world.project.migrations, { "1_a": "CREATE TABLE a (id integer);\nSELECT pg_sleep(4);\n" });
    const started = world.start(first, deployArguments(first));
    await until("the script sleeps", () => world.isAsleep(), ASLEEP_DEADLINE_MS);
    const running = JSON.parse((await world.run("deploy", ["status", "--json"])).stdout) as Status;
    expect([0, 1]).toContain(running.running.length);
    expect(running.failed).toEqual([]);
    expect(outcomeOf(await world.run(second, deployArguments(second)))).toBe("ok");
    expect(outcomeOf(await started.ended)).toBe("ok");
    expect(await world.query("SELECT migration_name, applied_steps_count FROM _prisma_migrations")).toBe("1_a|1");
  });
});

describe.skipIf(isSkipped).each([...ENGINES])("what the CLI of Prisma $name has left of a failed script", (engine) => {
  /** 7.10 commits statement by statement: the first one stays. */
  const isSplit = engine.name === "7.10";

  test("is no business of a deploy that was killed before it", async () => {
    const world = await makeWorld(engine);
    const { migrations } = world.project;
    writeMigrations(migrations, { "1_a": "CREATE TABLE a (id integer);\n" });
    expect(outcomeOf(await world.run("deploy", []))).toBe("ok");
    writeMigrations(migrations, { "2_b": "CREATE TABLE b (id integer);\nSELECT pg_sleep(600);\n" });
    const killed = world.start("deploy", []);
    await until("the script sleeps", () => world.isAsleep(), ASLEEP_DEADLINE_MS);
    killed.kill();
    await killed.ended;
    await endBackends(world.cluster, world.database);
    const script = "CREATE TABLE half (id integer);\nALTER TABLE nope ADD COLUMN x integer;\n";
    writeMigrations(migrations, { "2_b": script });
    expect(outcomeOf(await world.run("prisma", ["migrate", "deploy"]))).toBe("P3018");
    const rows = await readRows(world);
    expect(outcomeOf(await world.run("deploy", []))).toBe("P3009");
    expect(await readRows(world)).toEqual(rows);
    expect(await world.query("SELECT to_regclass('half') IS NOT NULL")).toBe(isSplit ? "t" : "f");
  });

  test("is said by the deploy that is refused, with the command that goes on", async () => {
    const world = await makeWorld(engine);
    const script = "CREATE TABLE half (id integer);\nALTER TABLE nope ADD COLUMN x integer;\n";
    writeMigrations(world.project.migrations, { "1_a": "CREATE TABLE a (id integer);\n", "2_b": script });
    expect(outcomeOf(await world.run("prisma", ["migrate", "deploy"]))).toBe("P3018");
    const refused = await world.run("deploy", []);
    expect([refused.exitCode, outcomeOf(refused)]).toEqual([3, "P3009"]);
    expect(refused.stderr).toMatch(
      isSplit ? /^ +applied +1: CREATE TABLE half/m : /^ +not applied +1: CREATE TABLE half/m,
    );
    expect(refused.stderr).toMatch(/^ +not applied +2: ALTER TABLE nope/m);
    expect(refused.stderr).toContain(isSplit ? "Proposal: restore" : "Proposal: mark it rolled back");
    expect(refused.stderr).toContain("deploy resolve --rolled-back 2_b");

    const resolve = ["resolve", "--rolled-back", "2_b"];
    expect(outcomeOf(await world.run("deploy", resolve))).toBe(isSplit ? "RESOLVE_CONTRADICTED" : "ok");
    if (isSplit) {
      await world.query("DROP TABLE half");
      expect(outcomeOf(await world.run("deploy", resolve))).toBe("ok");
    }
    writeMigrations(world.project.migrations, { "2_b": "CREATE TABLE half (id integer);\n" });
    expect(outcomeOf(await world.run("deploy", []))).toBe("ok");
  });
});

/** Mulberry32, by Tommy Ettinger, public domain: the same numbers for the same seed. */
function makeRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The walk does not wait for what has failed before. */
function deployArguments(tool: Tool): readonly string[] {
  return tool === "prisma" ? ["migrate", "deploy"] : ["--retry"];
}

interface World {
  readonly project: PrismaProject;
  readonly cluster: Cluster;
  readonly database: string;
  readonly start: (tool: Tool, args: readonly string[]) => ReturnType<Tools["start"]>;
  readonly run: (tool: Tool, args: readonly string[]) => Promise<PrismaAnswer>;
  readonly query: (sql: string) => Promise<string>;
  readonly isAsleep: () => Promise<boolean>;
}

async function makeWorld(engine: Engine): Promise<World> {
  const cluster = await sharedCluster();
  const database = await cluster.createDatabase();
  const url = cluster.url(database);
  const project = await preparePrismaProject({ version: engine.version, migrationsFrom: {}, databaseUrl: url });
  const tools = makeTools(project, engine);
  const start: World["start"] = (tool, args) => tools.start(tool, args, url, { MIGRATION_ORDER: "prisma" });
  return {
    project,
    cluster,
    database,
    start,
    run: (tool, args) => start(tool, args).ended,
    query: (sql) => cluster.psql(database, sql),
    isAsleep: async () => {
      const asleep = `SELECT count(*) FROM pg_stat_activity WHERE datname = '${database}' AND wait_event = 'PgSleep'`;
      return (await cluster.psql("postgres", asleep)) !== "0";
    },
  };
}

/** A row of `_prisma_migrations` as the walk needs it. */
interface Row {
  readonly id: string;
  readonly name: string;
  readonly checksum: string;
  readonly steps: number;
  readonly isFinished: boolean;
  readonly isRolledBack: boolean;
  readonly isInOrder: boolean;
}

interface Action {
  readonly name: string;
  readonly run: () => Promise<void>;
}

async function makeWalk(engine: Engine, random: () => number) {
  const world = await makeWorld(engine);
  const { project } = world;
  /** Every checksum that a script ever had, by its name. */
  const known = new Map<string, Set<string>>();
  const scripts = new Map<string, string>();
  let number = 0;
  let deploys = 0;
  let hasFailed = false;

  const pick = <T>(items: readonly T[]): T | undefined => items[Math.floor(random() * items.length)];
  const eitherTool = (): Tool => (random() < 0.5 ? "prisma" : "deploy");
  const write = (name: string, text: string) => {
    writeMigrations(project.migrations, { [name]: text });
    scripts.set(name, text);
    known.set(name, (known.get(name) ?? new Set()).add(makeChecksum(text)));
  };
  const add = (prefix: string, end = ""): string => {
    number += 1;
    const name = `${prefix}${String(number).padStart(4, "0")}_t${number}`;
    write(name, `${makeScript(number, random)}${end}`);
    return name;
  };
  const mend = (name: string) => {
    write(name, (scripts.get(name) ?? "").replaceAll(/SELECT (1\/0|pg_sleep\(600\));\n/g, ""));
  };

  /** The rules of both, applied to the rows and the folder by neither of them. */
  const expectedStory = async () => {
    const rows = await readRows(world);
    const live = rows.filter(({ isRolledBack }) => !isRolledBack);
    const names = listMigrations(project.migrations);
    const pending = names.filter((name) => !live.some((row) => row.name === name));
    return { rows, names, pending, failed: live.filter(({ isFinished }) => !isFinished).map(({ name }) => name) };
  };

  const deploy = async (tool: Tool) => {
    const before = await expectedStory();
    const outcome = outcomeOf(await world.run(tool, deployArguments(tool)));
    const after = await expectedStory();
    if (before.failed.length > 0) {
      expect([outcome, after.rows]).toEqual(["P3009", before.rows]);
    } else if (outcome === "ok") {
      deploys += 1;
      expect([after.pending, after.failed]).toEqual([[], []]);
    } else {
      expect(outcome).toBe("P3018");
      // A deploy of ours that fails leaves the rows as they were, or stops at a boundary with nothing failed.
      if (tool === "deploy") expect(after.failed).toEqual([]);
      for (const name of [...after.failed, ...after.pending]) mend(name);
    }
  };

  const kill = async (tool: Tool) => {
    if ((await expectedStory()).failed.length > 0) return;
    const name = add("8", "SELECT pg_sleep(600);\n");
    const started = world.start(tool, deployArguments(tool));
    // Another one that is pending may fail first.
    let hasEnded = false;
    void started.ended.then(() => {
      hasEnded = true;
    });
    await until("the script sleeps", async () => hasEnded || (await world.isAsleep()), ASLEEP_DEADLINE_MS);
    started.kill();
    await started.ended;
    await endBackends(world.cluster, world.database);
    for (const left of (await expectedStory()).pending) mend(left);
    mend(name);
  };

  const resolve = async (tool: Tool, as: "--applied" | "--rolled-back") => {
    const { failed, names, rows } = await expectedStory();
    const name = pick(failed) ?? pick(names);
    if (name === undefined) return;
    const args = [as, name, ...(tool === "deploy" ? ["--force"] : [])];
    const outcome = outcomeOf(
      await world.run(tool, tool === "prisma" ? ["migrate", "resolve", ...args] : ["resolve", ...args]),
    );
    expect(outcome).toBe(expectedResolution(rows, names, name, as));
  };

  const actions: readonly (readonly [weight: number, make: () => Action])[] = [
    [4, () => ({ name: "add", run: async () => void add("5") })],
    [1, () => ({ name: "add late", run: async () => void add("1") })],
    [2, () => ({ name: "add failing", run: async () => void add("6", "SELECT 1/0;\n") })],
    [
      2,
      () => {
        const name = pick([...scripts.keys()]);
        return {
          name: `edit ${name}`,
          run: async () => {
            if (name !== undefined) write(name, `${scripts.get(name)}-- edited\n`);
          },
        };
      },
    ],
    [
      1,
      () => {
        const name = pick(listMigrations(project.migrations));
        return {
          name: `remove ${name}`,
          run: async () => {
            if (name === undefined) return;
            rmSync(join(project.migrations, name), { recursive: true });
            scripts.delete(name);
          },
        };
      },
    ],
    [8, () => withTool("deploy by", eitherTool(), deploy)],
    [2, () => withTool("kill", eitherTool(), kill)],
    [
      5,
      () => {
        const as = random() < 0.6 ? "--rolled-back" : "--applied";
        return withTool(`resolve ${as} by`, eitherTool(), (tool) => resolve(tool, as));
      },
    ],
  ];

  const resolving = actions.length - 1;
  return {
    deployed: () => deploys,
    choose(): Action {
      // Nothing goes on while something has failed.
      const weighted = actions.map(
        ([weight, make], index) => [index === resolving && hasFailed ? 15 : weight, make] as const,
      );
      const total = weighted.reduce((sum, [weight]) => sum + weight, 0);
      let left = random() * total;
      for (const [weight, make] of weighted) {
        left -= weight;
        if (left < 0) return make();
      }
      throw new Error("the weights do not add up");
    },
    async check(): Promise<void> {
      const { rows, names, pending, failed } = await expectedStory();
      expectValid(rows, known);
      hasFailed = failed.length > 0;
      const answer = await world.run("deploy", ["status", "--json"]);
      expect(answer.stdout === "" ? answer.stderr : "").toBe("");
      const ours = JSON.parse(answer.stdout) as Status;
      expect({ pending: ours.pending.toSorted(), failed: ours.failed }).toEqual({
        pending: pending.toSorted(),
        failed,
      });
      expect(ours.state).toBe(failed.length > 0 ? "blocked" : pending.length > 0 ? "pending" : "up-to-date");
      const theirs = sortNames(parsePrismaStatus(await world.run("prisma", ["migrate", "status"])));
      const hasTable = (await world.query("SELECT to_regclass('_prisma_migrations') IS NOT NULL")) === "t";
      if (names.length === 0 && !hasTable) return;
      expect(theirs).toEqual(expectPrismaStatus(ours, { version: engine.version, names, hasTable }));
    },
  };
}

function withTool(name: string, tool: Tool, run: (tool: Tool) => Promise<void>): Action {
  return { name: `${name} ${tool}`, run: () => run(tool) };
}

/** Each may run again after a part of it has. */
function makeScript(number: number, random: () => number): string {
  const table = `CREATE TABLE IF NOT EXISTS t${number} (id integer);\n`;
  const forms = [
    table,
    `BEGIN;\n${table}COMMIT;\n`,
    `${table}INSERT INTO t${number} VALUES (1);\n`,
    `-- comment\r\n${table.replaceAll("\n", "\r\n")}`,
    `DO $$ BEGIN CREATE TABLE IF NOT EXISTS t${number} (id integer); END $$;\n`,
    "",
  ];
  return forms[Math.floor(random() * forms.length)] ?? table;
}

function expectedResolution(rows: readonly Row[], names: readonly string[], name: string, as: string): string {
  const own = rows.filter((row) => row.name === name);
  if (as === "--applied") {
    if (!names.includes(name)) return "P3017";
    return own.some(({ isFinished }) => isFinished) ? "P3008" : "ok";
  }
  if (own.length === 0) return "P3011";
  return own.every(({ isFinished }) => isFinished) ? "P3012" : "ok";
}

function expectValid(rows: readonly Row[], known: ReadonlyMap<string, ReadonlySet<string>>): void {
  for (const row of rows) {
    expect(row.id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect([row.name, known.get(row.name)?.has(row.checksum)]).toEqual([row.name, true]);
    expect([0, 1]).toContain(row.steps);
    if (row.steps === 1) expect(row.isFinished).toBe(true);
    expect(row.isInOrder).toBe(true);
  }
  const live = rows.filter(({ isRolledBack }) => !isRolledBack).map(({ name }) => name);
  expect(live.toSorted()).toEqual([...new Set(live)].toSorted());
}

async function readRows({ query }: World): Promise<Row[]> {
  const hasTable = (await query("SELECT to_regclass('_prisma_migrations') IS NOT NULL")) === "t";
  if (!hasTable) return [];
  const text = await query(
    `SELECT coalesce(json_agg(json_build_object('id', id, 'name', migration_name, 'checksum', checksum,
       'steps', applied_steps_count, 'isFinished', finished_at IS NOT NULL, 'isRolledBack', rolled_back_at IS NOT NULL,
       'isInOrder', coalesce(finished_at >= started_at, true) AND coalesce(rolled_back_at >= started_at, true))
       ORDER BY started_at, id), '[]') FROM _prisma_migrations`,
  );
  return JSON.parse(text) as Row[];
}
