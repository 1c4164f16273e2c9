/**
 * The proof that nobody but us has written to this database since the mark, without which nothing is ever restored.
 *
 * **A, by transactions.** Whatever changes a row, a large object or the catalog needs a transaction id, which a snapshot
 * of the time either holds as ended, or lists as running, or has not given out yet. So when none of the ids that the
 * mark's snapshot lists as running, and none that was given out since, has committed (`pg_xact_status`), except those
 * that we recorded as our own, then nothing was written by anybody else. Ids belong to the cluster, so work in another
 * database, autovacuum's ANALYZE, and statements of ours whose ids can't be known make it unprovable, never wrong. Ids
 * of another cluster, or of another timeline of this one, mean nothing; and a server that crashes may give ids out once
 * more, those of transactions that were lost with it: so it must be the same one, and must not have been restarted since,
 * unless a later transaction of ours is known to be on the disk (`confirmation.ts`). Then no id that the snapshot knows is
 * given out again, every later COMMIT that was answered is still there, and of our own ids only that one is sure to be ours.
 * (A disk of the server that was put back to before that transaction does not know it as committed: then ids mean nothing.)
 * `nextval` alone needs no id: a number that was handed out to nobody's row is not a write.
 *
 * **B, by presence.** Nobody else was connected at the mark, nobody is connected at the verdict, and the server's count
 * of sessions of this database has grown by exactly those that we opened. Why nobody can slip through:
 *
 *  - From server 15 on, an ending session adds itself to the shared count before it leaves `pg_stat_activity`. So whoever
 *    was here is still seen there, or is in a count that is read *after* it. At the verdict we therefore look at who is
 *    there first and at the count second. (Server 14 sends the count by datagrams, which may be late or lost: no B.)
 *  - At the mark it is the other way round, the count first: who is not in that count is in the one of the verdict, or
 *    still there. Who is in it has ended before we looked who is there, or is seen there. And only then the snapshot is
 *    taken, so that everything of those who had ended is in the backup.
 *  - The number of our own sessions must not be too high, or a stranger could hide in the difference: each is counted
 *    only after the server let it in, and those that still live are made to add themselves to the count before it is
 *    read. One of ours that is missing in the number is a false alarm, no more.
 *  - What writes without such a session makes B void: prepared transactions, subscriptions, extensions with workers of
 *    their own, a process in this database that we do not know, and replication connections, which are seen while they
 *    last, and from server 16 on also by the buffers that they touched. (On server 15 a client with the right to
 *    replicate that connects in that mode, writes by SQL and leaves within the deploy is seen by A alone.)
 *  - Counters that were reset, or lost in a crash, and a server that was restarted, make it void too.
 *
 * Both look at the past. What is written after the verdict is kept safe by the locks of the transaction that restores,
 * under which the verdict is repeated: see `in-place.ts`.
 */
import type { Session } from "../postgres/session.ts";
import {
  type Counters,
  type ForeignTransactions,
  flushOwnSessions,
  makeCountersQuery,
  makePresenceQuery,
  makeTransactionsQuery,
  PLACE_QUERY,
  type Place,
  type Presence,
  readRow,
  SESSIONS_COUNTED_MAJOR,
} from "./evidence.ts";

/** What the mark holds for the proofs. */
export interface MarkedEvidence {
  readonly serverMajor: number;
  readonly place: Place;
  /** Text of `pg_current_snapshot()`. */
  readonly snapshot: string;
  readonly counters: Counters;
  readonly presence: Presence;
  /** `Database.sessionsOpened` at the mark. */
  readonly sessionsOpened: number;
  /** A transaction of ours, begun behind the snapshot, whose COMMIT is on the disk. Undefined: a crash voids both proofs. */
  readonly durableTransactionId?: string | undefined;
}

/** What we did ourselves since the mark. */
export interface OwnWork {
  /** Transactions of ours that may have committed, each recorded with `pg_current_xact_id()`. */
  readonly transactionIds: readonly string[];
  /** Sessions of ours that are open, outside of any transaction. Any other one is taken for a stranger's. */
  readonly sessions: readonly Session[];
  /** `Database.sessionsOpened` now. Undefined when something opened an unknown number of sessions for us. */
  readonly sessionsOpened: number | undefined;
}

export interface Evidence {
  readonly place: Place;
  readonly presence: Presence;
  readonly counters: Counters;
  readonly transactions: ForeignTransactions;
}

export type ProofReason =
  | "other-server"
  | "transactions-committed"
  | "transactions-unknown"
  | "server-before-15"
  | "clients-at-mark"
  | "clients-now"
  | "sessions-uncounted"
  | "sessions-unknown"
  | "statistics-reset"
  | "server-restarted"
  | "prepared-transactions"
  | "subscriptions"
  | "worker-extensions"
  | "replication-connections";

export interface Proof {
  /** Which proof holds; undefined when neither does. */
  readonly proven: "A" | "B" | undefined;
  /** Why those that don't hold don't; those of A first. */
  readonly reasons: readonly ProofReason[];
}

/** A backend outlives its client by a moment: that of pg_dump, or of the Prisma CLI. */
const SETTLE_MS = 2_000;
const SETTLE_POLL_MS = 100;

/**
 * Reads the evidence for a verdict. Clients that are still there are given a moment to leave.
 *
 * @param session one of `own.sessions`
 * @throws what the session throws
 */
export async function readEvidence(session: Session, mark: MarkedEvidence, own: OwnWork): Promise<Evidence> {
  const place = await readRow<Place>(session, PLACE_QUERY);
  const ownPids = await flushOwnSessions(own.sessions, mark.serverMajor);
  // A session does not outlive the server, so this holds for all that is read here.
  const life = await readRow<Counters>(session, makeCountersQuery(mark.serverMajor));
  const known = { transactionIds: isSameLife(mark, life) ? own.transactionIds : listDurableIds(mark) };
  const transactions = isSamePlace(mark.place, place) ? await readTransactions(session, mark, known) : "unknown";
  // Where A holds, nobody's presence matters.
  const deadline = performance.now() + (transactions === "none-committed" ? 0 : SETTLE_MS);
  let presence = await readRow<Presence>(session, makePresenceQuery(ownPids));
  while (presence.otherClients > 0 && performance.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, SETTLE_POLL_MS));
    presence = await readRow<Presence>(session, makePresenceQuery(ownPids));
  }
  // Behind the presence: see the header.
  const counters = await readRow<Counters>(session, makeCountersQuery(mark.serverMajor));
  return { place, presence, counters, transactions };
}

/** What has happened to transactions since a mark of this server, but to those. @throws what the session throws */
export async function readTransactionsSince(
  session: Session,
  mark: MarkedEvidence,
  transactionIds: readonly string[],
): Promise<ForeignTransactions> {
  return await readTransactions(session, mark, { transactionIds });
}

async function readTransactions(
  session: Session,
  mark: MarkedEvidence,
  own: Pick<OwnWork, "transactionIds">,
): Promise<ForeignTransactions> {
  const query = makeTransactionsQuery(mark, own.transactionIds);
  return (await readRow<{ transactions: ForeignTransactions }>(session, query)).transactions;
}

/** Pure. */
export function judgeProof(mark: MarkedEvidence, evidence: Evidence, own: Pick<OwnWork, "sessionsOpened">): Proof {
  if (!isSamePlace(mark.place, evidence.place)) return { proven: undefined, reasons: ["other-server"] };
  const forgotten = listLifeReasons(mark, evidence.counters);
  const isVoid = forgotten.length > 0 && mark.durableTransactionId === undefined;
  if (isVoid) return { proven: undefined, reasons: forgotten };
  if (evidence.transactions === "none-committed") return { proven: "A", reasons: [] };
  const againstTransactions = `transactions-${evidence.transactions}` as const;
  const againstPresence = forgotten.length > 0 ? forgotten : listPresenceReasons(mark, evidence, own);
  if (againstPresence.length === 0) return { proven: "B", reasons: [againstTransactions] };
  return { proven: undefined, reasons: [againstTransactions, ...againstPresence] };
}

/** The server has forgotten something in between. */
function listLifeReasons(mark: Pick<MarkedEvidence, "counters">, counters: Counters): ProofReason[] {
  return [
    ...(counters.serverStarted === mark.counters.serverStarted ? [] : (["server-restarted"] as const)),
    ...(counters.serverReset === mark.counters.serverReset ? [] : (["statistics-reset"] as const)),
  ];
}

function isSameLife(mark: Pick<MarkedEvidence, "counters">, counters: Counters): boolean {
  return listLifeReasons(mark, counters).length === 0;
}

/** Those of our ids that nobody else can have got from a server that has crashed meanwhile. Pure. */
export function listDurableIds({ durableTransactionId }: MarkedEvidence): readonly string[] {
  return durableTransactionId === undefined ? [] : [durableTransactionId];
}

/** Why B can't hold whatever comes: known at the mark. Pure. */
export function listMarkReasons(mark: Pick<MarkedEvidence, "serverMajor" | "presence" | "counters">): ProofReason[] {
  const isCounted = mark.serverMajor >= SESSIONS_COUNTED_MAJOR && mark.counters.sessions !== null;
  return [
    ...(isCounted ? [] : (["server-before-15"] as const)),
    ...(mark.presence.otherClients > 0 ? (["clients-at-mark"] as const) : []),
    ...listVoidReasons(mark.presence),
  ];
}

function listPresenceReasons(
  mark: MarkedEvidence,
  { presence, counters }: Evidence,
  own: Pick<OwnWork, "sessionsOpened">,
): ProofReason[] {
  const reasons = new Set<ProofReason>(listMarkReasons(mark));
  if (presence.otherClients > 0) reasons.add("clients-now");
  for (const reason of listVoidReasons(presence)) reasons.add(reason);
  const { databaseReset, walSenderAccesses } = mark.counters;
  if (counters.databaseReset !== databaseReset) reasons.add("statistics-reset");
  if (counters.walSenderAccesses !== walSenderAccesses) reasons.add("replication-connections");
  const expected = makeExpectedSessions(mark, own);
  if (expected === undefined) reasons.add("sessions-unknown");
  else if (counters.sessions !== expected) reasons.add("sessions-uncounted");
  return [...reasons];
}

/** The count that there must be when all new sessions are ours; undefined where that can't be known. Pure. */
export function makeExpectedSessions(
  mark: Pick<MarkedEvidence, "counters" | "sessionsOpened">,
  own: Pick<OwnWork, "sessionsOpened">,
): string | undefined {
  if (mark.counters.sessions === null || own.sessionsOpened === undefined) return undefined;
  return (BigInt(mark.counters.sessions) + BigInt(own.sessionsOpened - mark.sessionsOpened)).toString();
}

function listVoidReasons(presence: Presence): ProofReason[] {
  return [
    ...(presence.preparedTransactions > 0 ? (["prepared-transactions"] as const) : []),
    ...(presence.subscriptions > 0 ? (["subscriptions"] as const) : []),
    ...(presence.workerExtensions.length > 0 ? (["worker-extensions"] as const) : []),
  ];
}

export function isSamePlace(one: Place, other: Place): boolean {
  return (
    one.databaseOid === other.databaseOid &&
    one.systemIdentifier === other.systemIdentifier &&
    one.timeline === other.timeline
  );
}
