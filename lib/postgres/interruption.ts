/** Gives up what waits on the server, where a deploy is interrupted before it has changed anything. */
import type { Session } from "./session.ts";

const CANCEL_AGAIN_MS = 500;

/**
 * Runs what only reads. The signal cancels whatever the sessions run by then, again and again, since a request that comes
 * between two statements is lost.
 *
 * @throws what `act` throws, or the signal's reason when it has fired
 */
export async function untilInterrupted<Result>(
  signal: AbortSignal,
  sessions: () => readonly (Session | undefined)[],
  act: () => Promise<Result>,
): Promise<Result> {
  signal.throwIfAborted();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const cancel = () => {
    for (const session of sessions()) void session?.cancel();
    timer = setTimeout(cancel, CANCEL_AGAIN_MS);
  };
  signal.addEventListener("abort", cancel, { once: true });
  try {
    return await act();
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener("abort", cancel);
    clearTimeout(timer);
  }
}
