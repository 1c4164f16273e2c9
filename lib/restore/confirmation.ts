/**
 * A proof that holds is made a new beginning: evidence is taken as it is for a mark, the proof is made once more behind it,
 * and then a transaction of ours is brought to the disk. From then on only what comes later has to be proven, and a server
 * that crashes takes nothing of that away (see `proof.ts`).
 */
import type { Database } from "../postgres/database.ts";
import type { Session } from "../postgres/session.ts";
import { flushOwnSessions, PLACE_QUERY, type Place, readPresence, readRow } from "./evidence.ts";
import { judgeProof, type MarkedEvidence, type OwnWork, type Proof, readEvidence } from "./proof.ts";

export interface Confirmation extends Proof {
  /** Undefined where nothing is proven. Its own transaction is one of ours from then on. */
  readonly evidence: MarkedEvidence | undefined;
}

const DEADLINE_MS = 60_000;
const SPENT_IDS = 8;

/**
 * Judges whether nobody else has written since `base`, and confirms it.
 *
 * @param database counts the sessions that come later, whether those before were counted or not
 * @param own how it is at each call: sessions and transactions may be added meanwhile
 * @throws what the session throws
 */
export async function confirmProof(
  session: Session,
  base: MarkedEvidence,
  database: Pick<Database, "sessionsOpened">,
  own: () => OwnWork,
): Promise<Confirmation> {
  // It gives those who are about to leave the time to do so, which evidence to build on has no use for.
  const first = judgeProof(base, await readEvidence(session, base, own()), own());
  if (first.proven === undefined) return { ...first, evidence: undefined };
  const evidence = await takeEvidence(session, base.serverMajor, database, own());
  const second = judgeProof(base, await readEvidence(session, base, own()), own());
  if (second.proven === undefined) return { ...second, evidence: undefined };
  return { ...second, evidence: { ...evidence, durableTransactionId: await commitDurably(session) } };
}

async function takeEvidence(
  session: Session,
  serverMajor: number,
  { sessionsOpened }: Pick<Database, "sessionsOpened">,
  own: OwnWork,
): Promise<MarkedEvidence> {
  const ownPids = await flushOwnSessions(own.sessions, serverMajor);
  const { counters, presence } = await readPresence(session, ownPids, serverMajor);
  // Only now, as for a mark: whoever is neither in the count nor seen has ended.
  const { snapshot } = await readRow<{ snapshot: string }>(session, `SELECT pg_current_snapshot()::text AS "snapshot"`);
  const place = await readRow<Place>(session, PLACE_QUERY);
  return { serverMajor, place, snapshot, counters, presence, sessionsOpened };
}

/**
 * A message in the log that means nothing to anybody: a transaction that has only an id would not be waited for
 * (`RecordTransactionCommit`, src/backend/access/transam/xact.c). Standbys are not waited for either, since one that is
 * promoted is another timeline.
 *
 * A disk that an operator has put back to before it knows nothing of it, and there others can get that id. So some that
 * come to nothing are spent first: who gets those as well, and commits, is found by them.
 *
 * @returns its id
 */
async function commitDurably(session: Session): Promise<string> {
  const transaction = { during: "confirm the proof", deadlineMs: DEADLINE_MS };
  const spend = `BEGIN FOR n IN 1..${SPENT_IDS} LOOP PERFORM pg_catalog.pg_current_xact_id(); ROLLBACK; END LOOP; END`;
  await session.script(`DO $spend$ ${spend} $spend$`, transaction);
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
