/**
 * One GET of the app's own address, and only its status: nothing is followed, nothing of the answer is shown.
 *
 * Sockets and not `fetch`: a proxy of the environment has no business between us and this machine, `localhost` is tried
 * as both of its addresses whatever the resolver says, and an HTTP client costs more time than all the rest.
 */
import { connect, type Socket } from "node:net";

const ANSWER_BYTES_MAX = 16_384;
const USER_AGENT = "prisma-safe-deploy-health-check";
const LOCALHOST = ["127.0.0.1", "::1"];

export type UrlAnswer = { readonly status: number } | { readonly reason: UrlFailure };

/** `system` carries a code such as ECONNREFUSED. */
export type UrlFailure =
  | { readonly kind: "timeout"; readonly deadlineMs: number }
  | { readonly kind: "closed" | "not-http" }
  | { readonly kind: "system"; readonly code: string };

/** Asks every address of the URL's host until one lets us in. Never rejects, and takes no longer than the deadline. */
export async function probeUrl(url: URL, deadlineMs: number): Promise<UrlAnswer> {
  let firstFailure: UrlFailure | undefined;
  const startedMs = performance.now();
  for (const host of makeHosts(url)) {
    const remainingMs = deadlineMs - (performance.now() - startedMs);
    if (remainingMs <= 0) break;
    const answer = await ask(url, host, remainingMs);
    if ("status" in answer) return answer;
    firstFailure ??= answer.reason;
    // Somebody is there, and that is the answer.
    if (answer.reason.kind !== "system") break;
  }
  return { reason: firstFailure ?? { kind: "timeout", deadlineMs } };
}

function makeHosts(url: URL): readonly string[] {
  return url.hostname === "localhost" ? LOCALHOST : [url.hostname.replace(/^\[|\]$/g, "")];
}

async function ask(url: URL, host: string, deadlineMs: number): Promise<UrlAnswer> {
  const socket = await open(url, host);
  return await new Promise((resolve) => {
    const finish = (answer: UrlAnswer) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(answer);
    };
    const timer = setTimeout(() => finish({ reason: { kind: "timeout", deadlineMs } }), deadlineMs);
    let text = "";
    socket.on("data", (chunk: Uint8Array) => {
      text += new TextDecoder("latin1").decode(chunk);
      const answer = parseAnswer(text);
      if (answer !== undefined) finish(answer);
    });
    socket.on("error", (error: Error & { code?: string }) =>
      finish({ reason: { kind: "system", code: error.code ?? error.message } }),
    );
    socket.on("close", () => finish({ reason: { kind: "closed" } }));
    socket.write(makeRequest(url));
  });
}

/** Writes wait until the connection is there. A certificate can't be issued for this machine: it proves nothing here. */
async function open(url: URL, host: string): Promise<Socket> {
  if (url.protocol === "http:") return connect({ host, port: Number(url.port || 80) });
  const { connect: connectTls } = await import("node:tls");
  const isLoopback = LOCALHOST.includes(host);
  return connectTls({
    host,
    port: Number(url.port || 443),
    ...(/^[\d.]+$|:/.test(host) ? {} : { servername: host }),
    rejectUnauthorized: !isLoopback,
  });
}

export function makeRequest(url: URL): string {
  const credentials = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`;
  const bytes = new TextEncoder().encode(credentials);
  const lines = [
    `GET ${url.pathname}${url.search} HTTP/1.1`,
    `Host: ${url.host}`,
    `User-Agent: ${USER_AGENT}`,
    "Accept: */*",
    "Connection: close",
    ...(credentials === ":" ? [] : [`Authorization: Basic ${btoa(String.fromCharCode(...bytes))}`]),
  ];
  return `${lines.join("\r\n")}\r\n\r\n`;
}

/** The status as soon as the whole head of the final answer is there. Undefined until then. */
export function parseAnswer(text: string): UrlAnswer | undefined {
  let rest = text;
  for (;;) {
    const end = rest.indexOf("\r\n\r\n");
    const isPossible = "HTTP/1.".startsWith(rest.slice(0, 7));
    if (!isPossible || rest.length > ANSWER_BYTES_MAX) return { reason: { kind: "not-http" } };
    if (end === -1) return undefined;
    const status = Number(/^HTTP\/1\.[01] (\d{3})/.exec(rest)?.[1]);
    if (Number.isNaN(status)) return { reason: { kind: "not-http" } };
    // 100 to 199 announce the answer, and are not it.
    if (status >= 200) return { status };
    rest = rest.slice(end + 4);
  }
}

/** What may be shown of a URL: no credentials, and no query, where tokens are. */
export function describeUrl(url: URL): string {
  return `${url.protocol}//${url.host}${url.pathname}`;
}
