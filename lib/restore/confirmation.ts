/**
 * A proof that holds is made a new beginning: evidence is taken as it is for a mark, the proof is made once more behind it,
 * and then a transaction of ours is brought to the disk. From then on only what comes later has to be proven, and a server
 * that crashes takes nothing of that away (see `proof.ts`).
 */
import type { Session } from "../postgres/session.ts";
import { flushOwnSessions, PLACE_QUERY, type Place, readPresence, readRow } from "./evidence.ts";
import { judgeProof, type MarkedEvidence, type OwnWork, type Proof, readEvidence } from "./proof.ts";

export interface Confirmation extends Proof {
  /** Undefined where nothing is proven. Its own transaction is one of ours from then on. */
  readonly evidence: MarkedEvidence | undefined;
}

const DEADLINE_MS = 60_000;

/**
 * Judges whether nobody else has written since `base`, and confirms it.
 *
 * @param own how it is at each call: sessions and transactions may be added meanwhile
 * @throws what the session throws
 */
export async function confirmProof(session: Session, base: MarkedEvidence, own: () => OwnWork): Promise<Confirmation> {
  // It gives those who are about to leave the time to do so, which evidence to build on has no use for.
  const first = judgeProof(base, await readEvidence(session, base, own()), own());
  if (first.proven === undefined) return { ...first, evidence: undefined };
  const evidence = await takeEvidence(session, base.serverMajor, own());
  const second = judgeProof(base, await readEvidence(session, base, own()), own());
  if (second.proven === undefined) return { ...second, evidence: undefined };
  return { ...second, evidence: { ...evidence, durableTransactionId: await commitDurably(session) } };
}

async function takeEvidence(session: Session, serverMajor: number, own: OwnWork): Promise<MarkedEvidence> {
  const ownPids = await flushOwnSessions(own.sessions, serverMajor);
  const { counters, presence } = await readPresence(session, ownPids, serverMajor);
  // Only now, as for a mark: whoever is neither in the count nor seen has ended.
  const { snapshot } = await readRow<{ snapshot: string }>(session, `SELECT pg_current_snapshot()::text AS "snapshot"`);
  const place = await readRow<Place>(session, PLACE_QUERY);
  return { serverMajor, place, snapshot, counters, presence, sessionsOpened: own.sessionsOpened ?? 0 };
}

/**
 * A message in the log that means nothing to anybody: a transaction that has only an id would not be waited for
 * (`RecordTransactionCommit`, src/backend/access/transam/xact.c). Standbys are not waited for either, since one that is
 * promoted is another timeline.
 *
 * @returns its id
 */
async function commitDurably(session: Session): Promise<string> {
  const transaction = { during: "confirm the proof", deadlineMs: DEADLINE_MS };
  await session.script("BEGIN; SET LOCAL synchronous_commit = local", transaction);
  try {
    const { id } = await readRow<{ id: string }>(
      session,
      `SELECT pg_current_xact_id()::text AS "id", pg_logical_emit_message(true, 'prisma-safe-deploy', 'confirmed')`,
    );
    await session.script("COMMIT", transaction);
    return id;
  } catch (error) {
    if (session.isOpen) await session.script("ROLLBACK", transaction).catch(() => {});
    throw error;
  }
}
