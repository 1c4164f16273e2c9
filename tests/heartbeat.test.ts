/** A deploy's sign of life: who writes it, who reads it, and what is left of it. */
import { describe, expect, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { HEARTBEAT_STALE_MS, makeStateFilePath, readHeartbeat, startHeartbeat } from "../lib/app/heartbeat.ts";
import { advanceProgress, type DeployProgress, makeProgress } from "../lib/app/progress.ts";
import type { Event } from "../lib/events.ts";
import { temporaryDirectory } from "./support/cluster.ts";
import { runHealth } from "./support/health.ts";

const TEST_MS = 60_000;
const NOW = new Date("2026-01-02T03:04:05.000Z");
const FIXTURE = join(import.meta.dirname, "fixtures", "beating-deploy.ts");

const makePath = () => join(temporaryDirectory(), "state.json");
const after = (ms: number) => new Date(NOW.getTime() + ms);

function beat(path: string, problems: string[] = [], now: () => Date = () => NOW) {
  return startHeartbeat(path, makeProgress(now()), { now, onProblem: (reason) => problems.push(reason) });
}

describe("writing", () => {
  test("at once and at each update, for nobody else to read", () => {
    const path = makePath();
    const heartbeat = beat(path);
    const first = { pid: process.pid, step: "connect", since: NOW.toISOString() };
    const times = { startedAt: NOW.toISOString(), updatedAt: NOW.toISOString() };
    expect(JSON.parse(readFileSync(path, "utf8"))).toEqual({ ...first, ...times });
    expect(statSync(path).mode & 0o777).toBe(0o600);
    heartbeat.update({ step: "migrate", since: NOW.toISOString(), detail: "1_a" });
    expect(JSON.parse(readFileSync(path, "utf8"))).toMatchObject({ step: "migrate", detail: "1_a" });
    heartbeat.stop();
    expect(readdirSync(dirname(path))).toEqual([]);
  });

  test(
    "again and again while nothing happens",
    async () => {
      const path = makePath();
      let now = NOW;
      const heartbeat = beat(path, [], () => now);
      now = after(60_000);
      const deadline = performance.now() + 30_000;
      while (readHeartbeat(path, now).kind !== "fresh" && performance.now() < deadline) await Bun.sleep(50);
      expect(readHeartbeat(path, now)).toMatchObject({
        kind: "fresh",
        ageMs: 0,
        content: { startedAt: NOW.toISOString() },
      });
      heartbeat.stop();
    },
    TEST_MS,
  );

  test(
    "a reader never sees half of it",
    async () => {
      const path = makePath();
      const child = Bun.spawn([process.execPath, "-e", makeReader(path)], { stdout: "pipe" });
      const heartbeat = beat(path);
      for (let round = 0; child.exitCode === null && round < 1_000_000; round += 1) {
        const detail = "x".repeat((round * 997) % 20_000);
        heartbeat.update({ step: "migrate", since: NOW.toISOString(), detail });
        if (round % 50 === 0) await Bun.sleep(0);
      }
      heartbeat.stop();
      expect(await child.stdout.text()).toBe("2000 whole\n");
    },
    TEST_MS,
  );

  test("where nothing can be written it is told once, and nothing else happens", () => {
    const problems: string[] = [];
    const heartbeat = beat(join(temporaryDirectory(), "nowhere", "state.json"), problems);
    heartbeat.update({ step: "backup", since: NOW.toISOString(), detail: undefined });
    heartbeat.stop();
    expect(problems).toEqual(["ENOENT"]);
  });

  test("a read-only file system", () => {
    const problems: string[] = [];
    beat("/proc/state.json", problems).stop();
    expect(problems).toHaveLength(1);
  });

  test("not through somebody else's link", () => {
    const path = makePath();
    const target = join(dirname(path), "precious");
    writeFileSync(target, "precious");
    symlinkSync(target, path);
    symlinkSync(target, `${path}.${process.pid}.partial`);
    const problems: string[] = [];
    const heartbeat = beat(path, problems);
    expect(readFileSync(target, "utf8")).toBe("precious");
    expect(problems).toEqual(["EEXIST"]);
    heartbeat.update({ step: "backup", since: NOW.toISOString(), detail: undefined });
    expect(JSON.parse(readFileSync(path, "utf8")).step).toBe("backup");
    heartbeat.stop();
  });

  test("the file of another deploy is left to it", () => {
    const path = makePath();
    const heartbeat = beat(path);
    const others = readFileSync(path, "utf8").replace(`"pid":${process.pid}`, '"pid":1');
    writeFileSync(path, others);
    heartbeat.stop();
    expect(readFileSync(path, "utf8")).toBe(others);
  });

  test("one place for each folder, whatever the working directory", () => {
    expect(makeStateFilePath("/app/prisma/migrations")).toBe(makeStateFilePath("/app/prisma/../prisma/migrations/"));
    expect(makeStateFilePath("/app/prisma/migrations")).not.toBe(makeStateFilePath("/other/prisma/migrations"));
    expect(makeStateFilePath("/app")).toMatch(/\/prisma-safe-deploy-[0-9a-f]{16}\.json$/);
  });
});

describe("reading", () => {
  test.each([
    ["at once", 0, "fresh"],
    ["at the limit", HEARTBEAT_STALE_MS, "fresh"],
    ["beyond it", HEARTBEAT_STALE_MS + 1, "stale"],
    ["a clock that was set back a little", -2_000, "fresh"],
    ["a clock that was set back a lot", -HEARTBEAT_STALE_MS - 1, "stale"],
  ] as const)("%s", (_, laterMs, kind) => {
    const path = makePath();
    const heartbeat = beat(path);
    expect(readHeartbeat(path, after(laterMs))).toMatchObject({ kind, ageMs: Math.max(0, laterMs) });
    heartbeat.stop();
  });

  test("no file, and a folder in its place", () => {
    const path = makePath();
    expect(readHeartbeat(path, NOW)).toEqual({ kind: "none" });
    mkdirSync(path);
    expect(readHeartbeat(path, NOW)).toEqual({ kind: "none" });
  });

  test.each(["", "{", "null", "[]", '{"pid":"1"}', '{"pid":1,"step":"x","updatedAt":"yesterday"}'])(
    "a file that holds %j counts by its time",
    (text) => {
      const path = makePath();
      writeFileSync(path, text);
      utimesSync(path, NOW, NOW);
      expect(readHeartbeat(path, after(1_000))).toEqual({ kind: "fresh", ageMs: 1_000, content: undefined });
      expect(readHeartbeat(path, after(HEARTBEAT_STALE_MS + 1)).kind).toBe("stale");
    },
  );
});

describe("a real process", () => {
  const start = (...args: string[]) =>
    Bun.spawn([process.execPath, FIXTURE, ...args], { stdio: ["pipe", "pipe", "inherit"] });

  test(
    "is alive while it works, and gone without a trace when it is done",
    async () => {
      const path = makePath();
      const child = start(path);
      await child.stdout.getReader().read();
      const live = await runHealth(["--live", "--state-file", path]);
      expect(live).toMatchObject({
        exitCode: 0,
        line: expect.stringMatching(/^healthy: deploy at work: connecting \(/),
      });
      child.stdin.end();
      expect(await child.exited).toBe(0);
      expect(existsSync(path)).toBe(false);
    },
    TEST_MS,
  );

  test(
    "that was killed is unhealthy once its last sign is old",
    async () => {
      const path = makePath();
      const child = start(path);
      await child.stdout.getReader().read();
      child.kill("SIGKILL");
      await child.exited;
      expect((await runHealth(["--live", "--state-file", path])).exitCode).toBe(0);
      const content = JSON.parse(readFileSync(path, "utf8"));
      const old = new Date(Date.parse(content.updatedAt) - HEARTBEAT_STALE_MS).toISOString();
      writeFileSync(path, JSON.stringify({ ...content, updatedAt: old }));
      expect((await runHealth(["--live", "--state-file", path])).exitCode).toBe(1);
    },
    TEST_MS,
  );

  test(
    "is not kept alive by its heartbeat",
    async () => {
      expect(await start(makePath(), "forget").exited).toBe(0);
    },
    TEST_MS,
  );
});

/** Whom a migration waits for; what they run is nobody's business. */
const BLOCKER = { pid: 42, applicationName: "app", state: "active", statement: "SELECT 's3cret'", sinceMs: 1 };

function progressOf({ waiting }: Pick<Extract<Event, { kind: "migration-progress" }>, "waiting">): Event {
  const times = { runningMs: 1, elapsedMs: 1 };
  return {
    kind: "migration-progress",
    name: "1_a",
    number: 1,
    total: 1,
    ...times,
    waiting,
    work: undefined,
    held: undefined,
  };
}

describe("progress", () => {
  const events: [Event, DeployProgress["step"], string | undefined][] = [
    [{ kind: "reading-status" }, "connect", undefined],
    [{ kind: "lock-waiting", holder: undefined, waitedMs: 0 }, "lock", undefined],
    [{ kind: "pending-found", pending: ["1_a"], segments: [] }, "prepare", undefined],
    [{ kind: "migration-started", engine: "native" }, "migrate", undefined],
    [{ kind: "migration-running", name: "1_a" }, "migrate", "1_a"],
    [progressOf({ waiting: { waitedMs: 1, blockers: [BLOCKER] } }), "migrate", "1_a, pid 42"],
    [progressOf({ waiting: undefined }), "migrate", "1_a"],
    [{ kind: "migration-applied", name: "1_a", durationMs: 1 }, "migrate", "1_a"],
    [{ kind: "notice", severity: "NOTICE", message: "s3cret" }, "migrate", "1_a"],
    [{ kind: "prune-started" }, "prune", undefined],
    [{ kind: "app-starting", command: ["node"] }, "finish", undefined],
  ];

  test("follows the events, and never says what a server said", () => {
    let progress = makeProgress(NOW);
    for (const [index, [event, step, detail]] of events.entries()) {
      progress = advanceProgress(progress, event, after(index));
      expect(progress).toMatchObject({ step, detail } as object);
    }
    expect(progress.since).toBe(after(events.length - 1).toISOString());
  });

  test("the time is that of the step, and what changes nothing is the same object", () => {
    const migrating = advanceProgress(makeProgress(NOW), { kind: "migration-started", engine: "native" }, after(1));
    const applied = advanceProgress(migrating, { kind: "migration-applied", name: "1_a", durationMs: 1 }, after(2));
    expect(applied.since).toBe(after(1).toISOString());
    expect(advanceProgress(applied, { kind: "notice", severity: "NOTICE", message: "" }, after(3))).toBe(applied);
  });
});

/** A program that reads the file 2000 times, and ends with an error when it is not whole. */
function makeReader(path: string): string {
  return `
    const fs = require("node:fs");
    let whole = 0;
    while (whole < 2000) {
      let text;
      try { text = fs.readFileSync(${JSON.stringify(path)}, "utf8"); } catch { continue; }
      if (JSON.parse(text).pid !== ${process.pid}) process.exit(1);
      whole += 1;
    }
    console.log(whole + " whole");`;
}
