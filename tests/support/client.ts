/** Another client of the database: the real psql, which stays connected until it is told to leave. */
import { spawn } from "node:child_process";
import { findClientTool } from "../../scripts/support/postgres-binaries.mjs";
import type { Cluster } from "./cluster.ts";

export interface Client {
  /** Of its backend. */
  readonly pid: number;
  /** One statement or more. Rows unaligned; throws what the server says about the last one, or that we were cut off. */
  run(sql: string): Promise<string>;
  /** Leaves, and waits until it has. */
  end(): Promise<void>;
}

const ANSWER_DEADLINE_MS = 120_000;
const MARKER = "-- answered:";

interface Waiting {
  readonly resolve: (output: string) => void;
  readonly reject: (error: Error) => void;
}

/** Looking for it asks every candidate for its version, and a distribution's wrapper is slow to answer. */
let psql: { readonly path: string } | undefined;

export async function openClient(
  cluster: Cluster,
  database: string,
  user: string = cluster.superuser,
): Promise<Client> {
  psql ??= findClientTool("psql");
  if (psql === undefined) throw new Error("psql is not installed");
  const child = spawn(psql.path, ["-XAtq"], {
    env: {
      PATH: process.env.PATH,
      LC_ALL: "C",
      PGHOST: cluster.host,
      PGPORT: String(cluster.port),
      PGUSER: user,
      PGPASSWORD: cluster.password,
      PGDATABASE: database,
    },
    stdio: ["pipe", "pipe", "pipe"],
  });
  let output = "";
  let complaints = "";
  let waiting: Waiting | undefined;
  let isEnded = false;
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
  void ended.then(() => {
    isEnded = true;
    waiting?.reject(new Error(`psql has ended: ${complaints.trim()}`));
  });
  child.stdin.on("error", () => {});
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    complaints += text;
  });
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    output += text;
    const answer = new RegExp(`^(?<rows>[\\s\\S]*?)${MARKER} (?<hasFailed>true|false) (?<message>.*)\\n`).exec(output);
    if (answer?.groups === undefined || waiting === undefined) return;
    const { rows = "", hasFailed, message } = answer.groups;
    output = "";
    if (hasFailed === "true") waiting.reject(new Error(message));
    else waiting.resolve(rows.trim());
  });
  const run = async (sql: string): Promise<string> => {
    if (waiting !== undefined || isEnded)
      throw new Error(`psql is ${isEnded ? "not there any more" : "still at work"}`);
    const answered = new Promise<string>((resolve, reject) => {
      waiting = { resolve, reject };
    });
    const deadline = setTimeout(() => child.kill("SIGKILL"), ANSWER_DEADLINE_MS);
    child.stdin.write(`${sql}\n;\n\\echo ${MARKER} :ERROR :LAST_ERROR_MESSAGE\n`);
    try {
      return await answered;
    } finally {
      clearTimeout(deadline);
      waiting = undefined;
    }
  };
  const end = async () => {
    child.stdin.end("\\q\n");
    const deadline = setTimeout(() => child.kill("SIGKILL"), ANSWER_DEADLINE_MS);
    await ended;
    clearTimeout(deadline);
  };
  return { pid: Number(await run("SELECT pg_backend_pid()")), run, end };
}
