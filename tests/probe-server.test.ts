/** Probes of an orchestrator against the deploy, over real sockets. */
import { afterEach, expect, test } from "bun:test";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { makeResponse, type ProbeServer, startProbeServer } from "../lib/app/probe-server.ts";
import type { DeployProgress } from "../lib/app/progress.ts";

const MIGRATING: DeployProgress = { step: "migrate", since: "2026-01-02T03:04:05.000Z", detail: "20260101_init" };
const TIMES = 100;

const servers: ProbeServer[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close();
});

async function start(port = 0, progress: () => DeployProgress = () => MIGRATING): Promise<ProbeServer> {
  const server = await startProbeServer(port, progress);
  servers.push(server);
  return server;
}

test.each([
  ["/livez", 200],
  ["/livez?verbose", 200],
  ["/readyz", 503],
  ["/", 404],
  ["/livez/more", 404],
])("%s is %d and tells the step", async (path, status) => {
  const { port } = await start();
  const response = await fetch(`http://127.0.0.1:${port}${path}`);
  expect(response.status).toBe(status);
  expect(await response.json()).toEqual({ status: "deploying", ...MIGRATING });
});

test("every answer is what the deploy is at in that moment", async () => {
  let step: DeployProgress["step"] = "backup";
  const { port } = await start(0, () => ({ ...MIGRATING, step }));
  const readStep = async () => ((await (await fetch(`http://127.0.0.1:${port}/readyz`)).json()) as DeployProgress).step;
  expect(await readStep()).toBe("backup");
  step = "migrate";
  expect(await readStep()).toBe("migrate");
});

test("both families of addresses are answered", async () => {
  const { port } = await start();
  expect((await fetch(`http://[::1]:${port}/livez`)).status).toBe(200);
});

test("HEAD has no body, other methods are refused", () => {
  expect(makeResponse("HEAD /livez HTTP/1.1", MIGRATING)).toEndWith("\r\n\r\n");
  expect(makeResponse("POST /livez HTTP/1.1", MIGRATING)).toStartWith("HTTP/1.1 405 ");
  expect(makeResponse("", MIGRATING)).toStartWith("HTTP/1.1 405 ");
});

test("the length of a body is in bytes", () => {
  const response = makeResponse("GET /livez HTTP/1.1", { ...MIGRATING, detail: "이름" });
  const [head = "", body = ""] = response.split("\r\n\r\n");
  expect(head).toContain(`Content-Length: ${new TextEncoder().encode(body).length}`);
});

test("requests in pieces and several on one connection", async () => {
  const { port } = await start();
  const socket = connect(port, "127.0.0.1");
  let text = "";
  socket.on("data", (chunk) => (text += chunk));
  for (const piece of ["GET /li", "vez HTTP/1.1\r\nHost: x\r\n", "\r\nGET /readyz HTTP/1.1\r\n\r\n"]) {
    socket.write(piece);
    await Bun.sleep(20);
  }
  await waitUntil(() => text.split("HTTP/1.1 ").length === 3);
  expect(text.match(/HTTP\/1.1 (\d+)/g)).toEqual(["HTTP/1.1 200", "HTTP/1.1 503"]);
  socket.destroy();
});

test("a request without an end is cut off", async () => {
  const { port } = await start();
  const socket = connect(port, "127.0.0.1");
  const closed = new Promise((resolve) => socket.on("close", resolve));
  socket.on("error", () => {});
  socket.write("x".repeat(10_000));
  await closed;
});

test("a port that is taken is an error with its code", async () => {
  const { port } = await start();
  await expect(startProbeServer(port, () => MIGRATING)).rejects.toMatchObject({ code: "EADDRINUSE" });
});

test("the port is free at once, whatever its clients do, many times", async () => {
  const { port } = await start();
  await servers.pop()?.close();
  for (let time = 0; time < TIMES; time += 1) {
    const server = await startProbeServer(port, () => MIGRATING);
    const clients = await Promise.all([probeAndStay(port), probeAndStay(port), probeAndLeave(port)]);
    await server.close();
    await listenAndClose(port);
    for (const client of clients) client.destroy();
  }
}, 60_000);

test("a server that does not ask to reuse addresses gets the port too", async () => {
  const { port } = await start();
  for (let time = 0; time < 10; time += 1)
    await fetch(`http://127.0.0.1:${port}/livez`, { headers: { Connection: "close" } });
  const staying = await probeAndStay(port);
  await servers.pop()?.close();
  staying.destroy();
  const source = `import socket; s = socket.socket(); s.bind(("127.0.0.1", ${port})); s.listen(); print("listening")`;
  const { stdout, stderr } = Bun.spawnSync(["python3", "-c", source]);
  expect({ stdout: stdout.toString(), stderr: stderr.toString() }).toEqual({ stdout: "listening\n", stderr: "" });
});

test("an app that listens at once gets the port, many times", async () => {
  const { port } = await start();
  await servers.pop()?.close();
  const fixture = (name: string) => join(import.meta.dirname, "fixtures", name);
  for (let time = 0; time < TIMES; time += 1) {
    const app = [process.execPath, fixture("listening-app.ts"), String(port)];
    const child = Bun.spawn([process.execPath, fixture("probed-deploy.ts"), ...app], {
      env: { PATH: process.env.PATH ?? "", PROBE_PORT: String(port) },
      stdio: ["pipe", "pipe", "pipe"],
    });
    const output = child.stdout.getReader();
    await output.read();
    const clients = await Promise.all([probeAndStay(port), probeAndLeave(port)]);
    child.stdin.end();
    const started = new TextDecoder().decode((await output.read()).value);
    expect({ stdout: started, stderr: await child.stderr.text(), code: await child.exited }).toEqual({
      stdout: "listening\n",
      stderr: "",
      code: 0,
    });
    for (const client of clients) client.destroy();
  }
}, 300_000);

/** A client with an open connection that has had its answer. */
async function probeAndStay(port: number): Promise<Socket> {
  const socket = connect(port, "127.0.0.1");
  socket.on("error", () => {});
  socket.write("GET /livez HTTP/1.1\r\n\r\n");
  await new Promise((resolve) => socket.once("data", resolve));
  return socket;
}

/** A client that connects and asks nothing. */
async function probeAndLeave(port: number): Promise<Socket> {
  const socket = connect(port, "127.0.0.1");
  socket.on("error", () => {});
  await new Promise((resolve) => socket.once("connect", resolve));
  return socket;
}

async function listenAndClose(port: number): Promise<void> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, resolve);
  });
  await new Promise((resolve) => server.close(resolve));
}

async function waitUntil(isTrue: () => boolean): Promise<void> {
  const deadline = performance.now() + 30_000;
  while (!isTrue()) {
    if (performance.now() > deadline) throw new Error("it did not happen in time");
    await Bun.sleep(10);
  }
}
