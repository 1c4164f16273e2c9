/**
 * One GET of the app's own address, and only its status: nothing is followed, nothing of the answer is shown.
 *
 * Sockets and not `fetch`: a proxy of the environment has no business between us and this machine, `localhost` is tried
 * as both of its addresses whatever the resolver says, and an HTTP client costs more time than all the rest.
 */
import { openConnection } from "./connection.ts";

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
  return { reason: firstFailure ?? { kind: "timeout", deadlineMs: Math.round(deadlineMs) } };
}

function makeHosts(url: URL): readonly string[] {
  return url.hostname === "localhost" ? LOCALHOST : [url.hostname.replace(/^\[|\]$/g, "")];
}

async function ask(url: URL, host: string, deadlineMs: number): Promise<UrlAnswer> {
  return await new Promise((resolve) => {
    const finish = (answer: UrlAnswer) => {
      clearTimeout(timer);
      close();
      resolve(answer);
    };
    const timer = setTimeout(
      () => finish({ reason: { kind: "timeout", deadlineMs: Math.round(deadlineMs) } }),
      deadlineMs,
    );
    let text = "";
    const close = openConnection(url, host, makeRequest(url), {
      onText: (chunk) => {
        text += chunk;
        const answer = parseAnswer(text);
        if (answer !== undefined) finish(answer);
      },
      onError: (code) => finish({ reason: { kind: "system", code } }),
      onClose: () => finish({ reason: { kind: "closed" } }),
    });
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
