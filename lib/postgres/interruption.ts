/** Gives up what runs on the server, where a deploy is interrupted. */
import type { Session } from "./session.ts";

const CANCEL_AGAIN_MS = 500;

/**
 * Runs what only reads. The signal cancels whatever the sessions run by then.
 *
 * @throws what `act` throws, or the signal's reason when it has fired
 */
export async function untilInterrupted<Result>(
  signal: AbortSignal,
  sessions: () => readonly (Session | undefined)[],
  act: () => Promise<Result>,
): Promise<Result> {
  signal.throwIfAborted();
  try {
    return await cancelWhenAborted(signal, sessions, act);
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  }
}

/**
 * From the signal on, cancels what the sessions run, again and again, since a request that comes between two statements
 * is lost. When this ends no request is on its way any more, which would hit whatever comes next.
 */
export async function cancelWhenAborted<Result>(
  signal: AbortSignal,
  sessions: () => readonly (Session | undefined)[],
  act: () => Promise<Result>,
): Promise<Result> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let requests: Promise<unknown> = Promise.resolve();
  const cancel = () => {
    requests = Promise.all([requests, ...sessions().map((session) => session?.cancel())]);
    timer = setTimeout(cancel, CANCEL_AGAIN_MS);
  };
  signal.addEventListener("abort", cancel, { once: true });
  try {
    return await act();
  } finally {
    signal.removeEventListener("abort", cancel);
    clearTimeout(timer);
    await requests;
  }
}
