/**
 * The sign of life of a deploy at work: a small file that is written anew every two seconds, for the health checks of
 * the same container. Its content is written beside it and renamed, so that nobody ever reads half of it.
 */
import { readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { DeployProgress } from "./progress.ts";

const INTERVAL_MS = 2_000;

/** A deploy that has been silent for longer hangs or is dead: its longest work without a pause takes far less. */
export const HEARTBEAT_STALE_MS = 30_000;

const FNV_OFFSET = 0xcbf29ce484222325n;
const FNV_PRIME = 0x100000001b3n;

export interface Heartbeat {
  update(progress: DeployProgress): void;
  /** Takes the file away, unless another deploy has written it since. */
  stop(): void;
}

/** What stands in the file. */
export interface HeartbeatContent extends DeployProgress {
  readonly pid: number;
  readonly startedAt: string;
  readonly updatedAt: string;
}

export type HeartbeatReading =
  | { readonly kind: "none" }
  | {
      readonly kind: "fresh" | "stale";
      /** Since the last sign of life. */
      readonly ageMs: number;
      /** Undefined where the file can't be read by us. */
      readonly content: HeartbeatContent | undefined;
    };

/** Where the file is unless STATE_FILE says otherwise: one for each migrations folder of the machine. */
export function makeStateFilePath(migrationsDirectory: string): string {
  return join(tmpdir(), `prisma-safe-deploy-${hash(resolve(migrationsDirectory))}.json`);
}

/** FNV-1a, 64 bits: a name for a path needs no cryptography, which would be slow to load. */
function hash(text: string): string {
  let value = FNV_OFFSET;
  for (const byte of new TextEncoder().encode(text)) value = BigInt.asUintN(64, (value ^ BigInt(byte)) * FNV_PRIME);
  return value.toString(16).padStart(16, "0");
}

/**
 * Writes the file at once, at each update, and in between. Never keeps the process alive and never throws.
 *
 * @param onProblem told once when the file can't be written, for example on a read-only file system
 */
export function startHeartbeat(
  path: string,
  progress: DeployProgress,
  options: { readonly now: () => Date; readonly onProblem: (reason: string) => void },
): Heartbeat {
  const startedAt = options.now().toISOString();
  let current = progress;
  let hasProblem = false;
  const beat = () => {
    const content = { pid: process.pid, ...current, startedAt, updatedAt: options.now().toISOString() };
    try {
      writeAtomically(path, `${JSON.stringify(content)}\n`);
    } catch (cause) {
      if (!hasProblem) options.onProblem((cause as { code?: string }).code ?? String(cause));
      hasProblem = true;
    }
  };
  const timer = setInterval(beat, INTERVAL_MS);
  timer.unref();
  beat();
  return {
    update: (next) => {
      if (next === current) return;
      current = next;
      beat();
    },
    stop: () => {
      clearInterval(timer);
      removeOwn(path);
    },
  };
}

function writeAtomically(path: string, text: string): void {
  const partialPath = `${path}.${process.pid}.partial`;
  try {
    // Not through a link that somebody has laid into a public folder.
    writeFileSync(partialPath, text, { flag: "wx", mode: 0o600 });
    renameSync(partialPath, path);
  } catch (cause) {
    // A partial file of a dead process with our number must not be in the way for ever.
    rmSync(partialPath, { force: true });
    throw cause;
  }
}

function removeOwn(path: string): void {
  try {
    if (parseContent(readFileSync(path, "utf8"))?.pid === process.pid) rmSync(path, { force: true });
  } catch {
    // It is not there, or not ours to remove.
  }
}

/** Reads the sign of life. Whatever is wrong with the file, its time still tells whether somebody is at work. */
export function readHeartbeat(path: string, now: Date): HeartbeatReading {
  let content: HeartbeatContent | undefined;
  try {
    content = parseContent(readFileSync(path, "utf8"));
  } catch (cause) {
    if ((cause as { code?: string }).code !== "EACCES") return { kind: "none" };
  }
  const updatedMs = content === undefined ? readModifiedMs(path) : Date.parse(content.updatedAt);
  if (updatedMs === undefined) return { kind: "none" };
  // A clock that was set back makes an age negative: a second or two is nothing, more says as little as an old one.
  const ageMs = now.getTime() - updatedMs;
  return { kind: Math.abs(ageMs) > HEARTBEAT_STALE_MS ? "stale" : "fresh", ageMs: Math.max(0, ageMs), content };
}

function readModifiedMs(path: string): number | undefined {
  try {
    return statSync(path).mtimeMs;
  } catch {
    return undefined;
  }
}

function parseContent(text: string): HeartbeatContent | undefined {
  try {
    const value = JSON.parse(text) as Partial<Record<keyof HeartbeatContent, unknown>> | null;
    if (typeof value?.pid !== "number" || typeof value.step !== "string") return undefined;
    if (Number.isNaN(Date.parse(String(value.updatedAt)))) return undefined;
    return value as HeartbeatContent;
  } catch {
    return undefined;
  }
}
