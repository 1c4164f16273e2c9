/** Whether a restore that has failed is tried once more: what failed was the server under it. */
import { isDeployError } from "../errors.ts";
import type { Session } from "../postgres/session.ts";
import { isAlive } from "./evidence.ts";

const ATTEMPTS_MAX = 3;
/** A backend that dies takes all others with it, once the postmaster has noticed. */
const NOTICE_MS = 1_000;
const POLL_MS = 100;

/**
 * @param session ours on the same server, idle; when the server has crashed it is closed afterwards
 * @param attempt the one that has failed, from 1 on
 */
export async function isWorthAnotherTry(error: unknown, session: Session, attempt: number): Promise<boolean> {
  if (attempt >= ATTEMPTS_MAX || isVerdict(error)) return false;
  return await waitUntilLost(session);
}

function isVerdict(error: unknown): boolean {
  return isDeployError(error) && ["RESTORE_NOT_PROVEN", "RESTORE_DIFFERS", "BACKUP_NOT_VERIFIED"].includes(error.code);
}

async function waitUntilLost(session: Session): Promise<boolean> {
  const deadline = performance.now() + NOTICE_MS;
  for (;;) {
    if (!(await isAlive(session))) return true;
    if (performance.now() >= deadline) return false;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
