/** The health check without a database: the app's address, a deploy at work, its flags, and what it prints. */
import { afterEach, describe, expect, test } from "bun:test";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { HEARTBEAT_STALE_MS, makeStateFilePath } from "../lib/app/heartbeat.ts";
import { clipLine, LINE_BYTES_MAX } from "../lib/cli/health-words.ts";
import { makeRequest, parseAnswer } from "../lib/health/url.ts";
import { temporaryDirectory } from "./support/cluster.ts";
import { makeBinary, runHealth } from "./support/health.ts";

const TEST_MS = 60_000;
const servers: Server[] = [];
const sockets = new Set<Socket>();

afterEach(() => {
  for (const socket of sockets) socket.destroy();
  for (const server of servers.splice(0)) server.close();
});

/** A server of raw answers. Undefined: the connection is taken, and nothing is said. */
async function serve(answer: string | undefined, host = "127.0.0.1"): Promise<{ port: number; requests: string[] }> {
  const requests: string[] = [];
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("data", (chunk) => {
      requests.push(chunk.toString());
      if (answer !== undefined) socket.end(answer);
    });
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  return { port: (server.address() as { port: number }).port, requests };
}

const response = (status: string, body = "ok") =>
  `HTTP/1.1 ${status}\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`;

describe("the app's address", () => {
  test.each([
    ["200 OK", 0],
    ["204 No Content", 0],
    ["301 Moved Permanently", 1],
    ["404 Not Found", 1],
    ["503 Service Unavailable", 1],
  ])(
    "%s is exit code %d",
    async (status, exitCode) => {
      const { port } = await serve(response(status));
      const result = await runHealth(["--live", "--url", `http://127.0.0.1:${port}/health`]);
      expect(result).toEqual({
        exitCode,
        line: `${exitCode === 0 ? "" : "un"}healthy: http://127.0.0.1:${port}/health HTTP ${status.slice(0, 3)}`,
        stderr: "",
      });
    },
    TEST_MS,
  );

  test.each([
    ["127.0.0.1", "localhost"],
    ["::1", "localhost"],
    ["::1", "[::1]"],
  ])(
    "an app that listens on %s only is found at %s",
    async (host, name) => {
      const { port, requests } = await serve(response("200 OK"), host);
      const result = await runHealth(["--live", "--url", `http://${name}:${port}/`]);
      expect(result.exitCode).toBe(0);
      expect(requests).toHaveLength(1);
      expect(requests[0]).toContain(`\r\nHost: ${name}:${port}\r\n`);
    },
    TEST_MS,
  );

  test(
    "an answer by one address of localhost is the answer",
    async () => {
      const { port, requests } = await serve(response("500 Oh"));
      expect((await runHealth(["--live", "--url", `http://localhost:${port}/`])).exitCode).toBe(1);
      expect(requests).toHaveLength(1);
    },
    TEST_MS,
  );

  test.each([
    ["nothing at all", undefined, "no answer within"],
    ["a connection that is closed", "", "connection closed without an answer"],
    ["something else than HTTP", "SSH-2.0-OpenSSH_9.2\r\n", "not an HTTP answer"],
    ["a head without an end", `HTTP/1.1 200 OK\r\n${"X-Filler: 1234567890\r\n".repeat(1000)}`, "not an HTTP answer"],
  ])(
    "%s",
    async (_, answer, words) => {
      const { port } = await serve(answer);
      const { exitCode, line } = await runHealth([
        "--live",
        "--timeout",
        "700ms",
        "--url",
        `http://127.0.0.1:${port}/`,
      ]);
      expect(exitCode).toBe(1);
      expect(line).toContain(words);
    },
    TEST_MS,
  );

  test(
    "nobody listens",
    async () => {
      const { port } = await serve("");
      servers.pop()?.close();
      const { exitCode, line } = await runHealth(["--live", "--url", `http://localhost:${port}/`]);
      expect({ exitCode, line }).toEqual({ exitCode: 1, line: `unhealthy: http://localhost:${port}/ ECONNREFUSED` });
    },
    TEST_MS,
  );

  test(
    "credentials and the query are sent and never shown, and a proxy is not asked",
    async () => {
      const { port, requests } = await serve(response("500 Oh"));
      const environment = { http_proxy: "http://127.0.0.1:1", HTTP_PROXY: "http://127.0.0.1:1" };
      const url = `http://probe:p%40ss@127.0.0.1:${port}/health?token=s3cret`;
      const results = [
        await runHealth(["--live", "--url", url], { environment }),
        await runHealth(["--live", "--json", "--url", url], { environment }),
      ];
      expect(requests).toHaveLength(2);
      expect(requests[0]).toStartWith("GET /health?token=s3cret HTTP/1.1\r\n");
      expect(requests[0]).toContain(`\r\nAuthorization: Basic ${btoa("probe:p@ss")}\r\n`);
      expect(JSON.stringify(results)).not.toMatch(/s3cret|p@ss|p%40ss|probe:/);
    },
    TEST_MS,
  );

  test(
    "a certificate of this machine is not asked for",
    async () => {
      const directory = temporaryDirectory();
      const files = ["-keyout", join(directory, "key.pem"), "-out", join(directory, "cert.pem")];
      const made = Bun.spawnSync([
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=x",
        ...files,
      ]);
      expect(made.exitCode).toBe(0);
      const tls = { key: Bun.file(join(directory, "key.pem")), cert: Bun.file(join(directory, "cert.pem")) };
      const app = Bun.serve({ port: 0, hostname: "127.0.0.1", tls, fetch: () => new Response("ok") });
      const result = await runHealth(["--live", "--url", `https://localhost:${app.port}/`]);
      await app.stop(true);
      expect(result.exitCode).toBe(0);
    },
    TEST_MS,
  );

  test.each([
    ["an interim answer is passed over", "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No\r\n\r\n", { status: 204 }],
    ["one that is not complete", "HTTP/1.1 200 OK\r\nX: y\r\n", undefined],
    ["nothing yet", "", undefined],
    ["no number", "HTTP/1.1 OK\r\n\r\n", { reason: { kind: "not-http" } }],
  ])("%s", (_, text, expected) => {
    expect(parseAnswer(text)).toEqual(expected as ReturnType<typeof parseAnswer>);
  });

  test("a request without credentials names nobody", () => {
    expect(makeRequest(new URL("http://app:3000/a?b"))).toBe(
      "GET /a?b HTTP/1.1\r\nHost: app:3000\r\nUser-Agent: prisma-safe-deploy-health-check\r\nAccept: */*\r\nConnection: close\r\n\r\n",
    );
  });
});

/** A working directory with the state file that a deploy there would have. */
function makeStateFile(content: string | object): { cwd: string; path: string } {
  const cwd = temporaryDirectory();
  const name = makeStateFilePath(join(cwd, "prisma/migrations")).split("/").at(-1) ?? "";
  const path = join(cwd, name);
  writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content), { mode: 0o600 });
  return { cwd, path };
}

function makeContent(ageMs: number, changes: object = {}): object {
  const at = (beforeMs: number) => new Date(Date.now() - beforeMs).toISOString();
  return {
    pid: process.pid,
    step: "migrate",
    since: at(ageMs + 42_000),
    detail: "20260901_x",
    startedAt: at(ageMs + 60_000),
    updatedAt: at(ageMs),
    ...changes,
  };
}

describe("a deploy at work", () => {
  test(
    "is alive, with its step and how long that takes",
    async () => {
      const { exitCode, line } = await runHealth(["--live"], makeStateFile(makeContent(0)));
      expect(exitCode).toBe(0);
      expect(line).toMatch(/^healthy: deploy at work: migration 20260901_x \(4\d\.\ds\)$/);
    },
    TEST_MS,
  );

  test(
    "is not ready, and neither the database nor the app is asked",
    async () => {
      const database = await serve(undefined);
      const app = await serve(response("200 OK"));
      const environment = { DATABASE_URL: `postgresql://user@127.0.0.1:${database.port}/app` };
      const args = ["--url", `http://127.0.0.1:${app.port}/`];
      const { exitCode, line } = await runHealth(args, { ...makeStateFile(makeContent(0)), environment });
      expect(exitCode).toBe(1);
      expect(line).toStartWith("unhealthy: deploy at work: migration");
      expect([...database.requests, ...app.requests]).toEqual([]);
    },
    TEST_MS,
  );

  test(
    "is dead or hangs when it is silent for too long",
    async () => {
      const stale = makeStateFile(makeContent(HEARTBEAT_STALE_MS + 5_000));
      const { exitCode, line } = await runHealth(["--live"], stale);
      expect({ exitCode, line }).toMatchObject({
        exitCode: 1,
        line: expect.stringMatching(/^unhealthy: deploy silent/),
      });
      const ahead = makeStateFile(makeContent(-HEARTBEAT_STALE_MS - 60_000));
      expect((await runHealth(["--live"], ahead)).exitCode).toBe(1);
    },
    TEST_MS,
  );

  test(
    "what a dead one has left does not speak against an app that answers",
    async () => {
      const app = await serve(response("200 OK"));
      const args = ["--live", "--url", `http://127.0.0.1:${app.port}/`];
      const stale = makeStateFile(makeContent(HEARTBEAT_STALE_MS + 5_000));
      expect((await runHealth(args, stale)).exitCode).toBe(0);
      servers.pop()?.close();
      expect((await runHealth(args, stale)).exitCode).toBe(1);
    },
    TEST_MS,
  );

  test(
    "is seen in the file that STATE_FILE or --state-file names, and only there",
    async () => {
      const { path } = makeStateFile(makeContent(0));
      const cwd = temporaryDirectory();
      const byFlag = await runHealth(["--live", "--state-file", path], { cwd });
      const byVariable = await runHealth(["--live"], { cwd, environment: { STATE_FILE: path } });
      expect([byFlag.line, byVariable.line]).toEqual([
        expect.stringContaining("migration"),
        expect.stringContaining("migration"),
      ]);
      expect((await runHealth(["--live"], { cwd })).line).toBe("healthy: no deploy at work (no --url given)");
    },
    TEST_MS,
  );

  test(
    "is still seen by the time of a file that makes no sense",
    async () => {
      const { exitCode, line } = await runHealth(["--live"], makeStateFile('{"pid":'));
      expect({ exitCode, line }).toMatchObject({ exitCode: 0, line: expect.stringContaining("deploy at work: ?") });
    },
    TEST_MS,
  );

  test.skipIf(process.getuid?.() !== 0)(
    "is still seen by another user, who may not read the file",
    async () => {
      const { path } = makeStateFile(makeContent(0));
      chmodSync(join(path, ".."), 0o755);
      const { program, cwd } = makeProgramForAnybody();
      const { exitCode, line } = await runHealth(["--live", "--state-file", path], { program, cwd });
      expect({ exitCode, line }).toMatchObject({ exitCode: 0, line: expect.stringContaining("deploy at work: ?") });
    },
    TEST_MS,
  );
});

describe("flags", () => {
  test.each([
    [["--nope"], "Unknown flag: --nope"],
    [["--liv"], "--live"],
    [["status"], "status"],
    [["--timeout"], "--timeout"],
    [["--timeout", "soon"], "soon"],
    [["--timeout", "0"], "--timeout"],
    [["--live=yes"], "--live"],
    [["--url", "localhost:3000"], "http://HOST:PORT/PATH"],
    [["--lang", "fr"], "fr"],
    [["--env-file", "nowhere.env"], "ENOENT"],
  ])(
    "%j is one line and exit code 1",
    async (args, words) => {
      const environment = { DATABASE_URL: "postgresql://u:s3cret@127.0.0.1:1/d" };
      const { exitCode, line, stderr } = await runHealth(args, { environment });
      expect({ exitCode, stderr }).toEqual({ exitCode: 1, stderr: "" });
      expect(line).toContain(words);
      expect(line).not.toContain("\n");
      expect(line).not.toContain("s3cret");
    },
    TEST_MS,
  );

  test.each([
    ["", "DATABASE_URL"],
    ["mysql://u:s3cret@h/d", "DATABASE_URL"],
    ["not a url s3cret", "DATABASE_URL"],
  ])(
    "DATABASE_URL=%s",
    async (url, words) => {
      const { exitCode, line } = await runHealth([], { environment: { DATABASE_URL: url } });
      expect(exitCode).toBe(1);
      expect(line).toContain(words);
      expect(line).not.toContain("s3cret");
    },
    TEST_MS,
  );

  test(
    "a value may stand behind = or a space, and the last one counts",
    async () => {
      const { port } = await serve(response("200 OK"));
      const url = `http://127.0.0.1:${port}/`;
      expect((await runHealth(["--live", `--url=${url}`])).exitCode).toBe(0);
      expect((await runHealth(["--live", "--url", "http://127.0.0.1:1/", "--url", url])).exitCode).toBe(0);
    },
    TEST_MS,
  );

  test(
    "--live needs no DATABASE_URL, and a .env of the working directory is not read",
    async () => {
      const cwd = temporaryDirectory();
      writeFileSync(join(cwd, ".env"), "HEALTH_URL=http://127.0.0.1:1/\n");
      expect((await runHealth(["--live"], { cwd })).exitCode).toBe(0);
      expect((await runHealth(["--live", "--env-file", ".env"], { cwd })).exitCode).toBe(1);
    },
    TEST_MS,
  );

  test(
    "a mounted secret is read, and the environment's own value goes before it",
    async () => {
      const { port, requests } = await serve(undefined);
      const cwd = temporaryDirectory();
      mkdirSync(join(cwd, "prisma/migrations"), { recursive: true });
      const makeUrl = (user: string) => `postgresql://${user}@127.0.0.1:${port}/d?sslmode=disable`;
      writeFileSync(join(cwd, "secret"), `${makeUrl("from_file")}\n`);
      const environment = { DATABASE_URL_FILE: "secret" };
      await runHealth(["--timeout", "500ms"], { cwd, environment });
      const own = { ...environment, DATABASE_URL: makeUrl("from_variable") };
      await runHealth(["--timeout", "500ms"], { cwd, environment: own });
      expect(requests).toEqual([expect.stringContaining("from_file"), expect.stringContaining("from_variable")]);
    },
    TEST_MS,
  );

  test(
    "--quiet says nothing while all is well",
    async () => {
      expect(await runHealth(["--live", "--quiet"])).toEqual({ exitCode: 0, line: "", stderr: "" });
      expect((await runHealth(["--live", "--quiet", "--url", "http://127.0.0.1:1/"])).line).not.toBe("");
    },
    TEST_MS,
  );

  test(
    "both languages, Korean by default",
    async () => {
      expect((await runHealth(["--live", "--lang", "ko"])).line).toBe("정상: 진행 중인 배포 없음 (--url 미설정)");
      expect((await runHealth(["--live"], { environment: { DEPLOY_LANG: "" } })).line).toStartWith("정상: ");
      const { line } = await runHealth(["--lang", "ko", "--url", "http://127.0.0.1:1/"], {
        environment: { DATABASE_URL: "postgresql://u@127.0.0.1:1/d" },
      });
      expect(line).toStartWith("비정상: 데이터베이스에 연결할 수 없음: 127.0.0.1:1 ");
    },
    TEST_MS,
  );

  test.each(["ko", "en"])("--help in %s names every flag", async (language) => {
    const { exitCode, line } = await runHealth(["--help", "--lang", language]);
    expect(exitCode).toBe(0);
    for (const flag of ["--live", "--url", "--timeout", "--json", "--quiet", "--state-file", "DATABASE_URL"]) {
      expect(line).toContain(flag);
    }
  });
});

describe("what is printed", () => {
  test(
    "--json has the shape of Terminus",
    async () => {
      const { port } = await serve(response("503 No"));
      const url = `http://127.0.0.1:${port}/`;
      const { exitCode, line } = await runHealth(["--json", "--live", "--url", url]);
      const down = { status: "down", message: `${url} HTTP 503`, url, httpStatus: 503 };
      expect(exitCode).toBe(1);
      expect(JSON.parse(line)).toEqual({
        status: "error",
        info: {},
        error: { url: down },
        details: { url: down },
      });
      const { line: healthy } = await runHealth(["--json", "--live"]);
      expect(JSON.parse(healthy)).toMatchObject({ status: "ok", error: {}, info: { deploy: { status: "up" } } });
      const { line: wrong } = await runHealth(["--json", "--nope"]);
      expect(JSON.parse(wrong)).toMatchObject({ status: "error", error: { settings: { status: "down" } } });
    },
    TEST_MS,
  );

  test.each([
    ["a long one", "x".repeat(1000)],
    ["Korean", "적용 대기 ".repeat(100)],
    ["emoji", "🚀".repeat(100)],
  ])("%s is cut between characters", (_, text) => {
    const line = clipLine(text);
    expect(new TextEncoder().encode(`${line}\n`).length).toBeLessThanOrEqual(LINE_BYTES_MAX);
    expect(new TextEncoder().encode(line).length).toBeGreaterThan(LINE_BYTES_MAX - 8);
    expect(line).toEndWith("…");
    expect(line).not.toContain("\uFFFD");
    expect(text.startsWith(line.slice(0, -1))).toBe(true);
  });

  test("line breaks and escapes of others do not get through", () => {
    expect(clipLine("a\nb\r\n\tc\u001b[31md\u2028e")).toBe("a b c [31md e");
  });
});

describe("in a container", () => {
  test.skipIf(process.getuid?.() !== 0)(
    "any user may run it",
    async () => {
      const { program, cwd } = makeProgramForAnybody();
      expect(await runHealth(["--live"], { program, cwd })).toMatchObject({ exitCode: 0, stderr: "" });
    },
    TEST_MS,
  );

  test.skipIf(Bun.spawnSync(["unshare", "--mount", "mount", "-o", "remount,ro,bind", "/"]).exitCode !== 0)(
    "a read-only root is enough",
    async () => {
      const binary = makeBinary();
      const script = 'mount -o remount,ro,bind / && ! touch "$0.x" 2>/dev/null && exec "$0" --live';
      const program = ["unshare", "--mount", "sh", "-c", script, binary];
      expect(await runHealth([], { program, cwd: "/" })).toMatchObject({ exitCode: 0, stderr: "" });
    },
    TEST_MS,
  );
});

/** The compiled program, run as a user who owns nothing. */
function makeProgramForAnybody(): { program: string[]; cwd: string } {
  const binary = makeBinary();
  chmodSync(join(binary, ".."), 0o755);
  return { program: ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", binary], cwd: "/" };
}
