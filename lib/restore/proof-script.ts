/** The verdict of `proof.ts` as a statement of the restoring transaction, which it ends where nothing is proven. Pure. */
import { quoteLiteral } from "../postgres/identifier.ts";
import { type Counters, makeCountersQuery, makePresenceQuery, makeTransactionsQuery, PLACE_QUERY } from "./evidence.ts";
import {
  listDurableIds,
  listMarkReasons,
  type MarkedEvidence,
  makeExpectedSessions,
  type ProofReason,
} from "./proof.ts";

export interface ProofScriptOptions {
  readonly mark: MarkedEvidence;
  readonly transactionIds: readonly string[];
  /** Backends of our own sessions besides the one that restores. */
  readonly ownPids: readonly number[];
  /** `Database.sessionsOpened` with the session that restores. */
  readonly sessionsOpened: number | undefined;
}

/** SQLSTATE of the refusal; its message is a JSON list of reasons. */
export const NOT_PROVEN_STATE = "PS001";

const SETTLE_ATTEMPTS_MAX = 20;
const SETTLE_SECONDS = 0.1;

/** A DO block that does nothing where a proof holds, and fails with NOT_PROVEN_STATE where none does. */
export function makeProofBlock(options: ProofScriptOptions): string {
  const { mark } = options;
  return `DO $proof$
#variable_conflict use_column
DECLARE
  place record;
  presence record;
  counters record;
  transactions text;
  reasons text[] := '{}';
  attempts int := 0;
BEGIN
  SELECT * INTO place FROM (${PLACE_QUERY}) AS x;
  IF (place."databaseOid", place."systemIdentifier", place."timeline")
    IS DISTINCT FROM (${[mark.place.databaseOid, mark.place.systemIdentifier, mark.place.timeline].map(asText)}) THEN
    RAISE EXCEPTION USING ERRCODE = '${NOT_PROVEN_STATE}', MESSAGE = '["other-server"]';
  END IF;
  SELECT * INTO counters FROM (${makeCountersQuery(mark.serverMajor)}) AS x;
${listLifeChecks(mark).map(makeCheck).join("\n")}
  IF cardinality(reasons) > 0 THEN
${makeRestartedPart(mark)}
    RAISE EXCEPTION USING ERRCODE = '${NOT_PROVEN_STATE}', MESSAGE = array_to_json(reasons)::text;
  END IF;
  SELECT x."transactions" INTO transactions FROM (${makeTransactionsQuery(mark, options.transactionIds)}) AS x;
  IF transactions = 'none-committed' THEN RETURN; END IF;
  reasons := ARRAY['transactions-' || transactions]${listMarkReasons(mark)
    .map((reason) => ` || ${asText(reason)}`)
    .join("")};
  LOOP
    PERFORM pg_stat_clear_snapshot();
    SELECT * INTO presence FROM (${makePresenceQuery(options.ownPids)}) AS x;
    EXIT WHEN presence."otherClients" = 0 OR attempts >= ${SETTLE_ATTEMPTS_MAX};
    attempts := attempts + 1;
    PERFORM pg_sleep(${SETTLE_SECONDS});
  END LOOP;
  SELECT * INTO counters FROM (${makeCountersQuery(mark.serverMajor)}) AS x;
${listChecks(options).map(makeCheck).join("\n")}
  IF cardinality(reasons) > 1 THEN
    RAISE EXCEPTION USING ERRCODE = '${NOT_PROVEN_STATE}', MESSAGE = array_to_json(reasons)::text;
  END IF;
END
$proof$;`;
}

/** Behind a crash only A can hold, and of our own transactions only the durable one is sure to be ours. */
function makeRestartedPart(mark: MarkedEvidence): string {
  if (mark.durableTransactionId === undefined) return "";
  return `    SELECT x."transactions" INTO transactions FROM (${makeTransactionsQuery(mark, listDurableIds(mark))}) AS x;
    IF transactions = 'none-committed' THEN RETURN; END IF;
    reasons := array_prepend('transactions-' || transactions, reasons);`;
}

interface Check {
  readonly reason: ProofReason;
  /** True where the reason stands. */
  readonly condition: string;
}

/** The same as `judgeProof` goes by. */
function listChecks(options: ProofScriptOptions): readonly Check[] {
  const { counters } = options.mark;
  const expected = makeExpectedSessions(options.mark, options);
  return [
    { reason: "clients-now", condition: `presence."otherClients" > 0` },
    { reason: "prepared-transactions", condition: `presence."preparedTransactions" > 0` },
    { reason: "subscriptions", condition: `presence."subscriptions" > 0` },
    { reason: "worker-extensions", condition: `json_array_length(presence."workerExtensions") > 0` },
    { reason: "statistics-reset", condition: differs("databaseReset", counters.databaseReset) },
    { reason: "replication-connections", condition: differs("walSenderAccesses", counters.walSenderAccesses) },
    expected === undefined
      ? { reason: "sessions-unknown", condition: "true" }
      : { reason: "sessions-uncounted", condition: differs("sessions", expected) },
  ];
}

function listLifeChecks({ counters }: MarkedEvidence): readonly Check[] {
  return [
    { reason: "server-restarted", condition: differs("serverStarted", counters.serverStarted) },
    { reason: "statistics-reset", condition: differs("serverReset", counters.serverReset) },
  ];
}

function differs(name: keyof Counters, marked: string | null): string {
  return `counters."${name}" IS DISTINCT FROM ${asText(marked)}`;
}

function makeCheck({ reason, condition }: Check): string {
  return `  IF ${condition} THEN reasons := reasons || ${asText(reason)}; END IF;`;
}

function asText(value: string | null): string {
  return value === null ? "NULL::text" : `${quoteLiteral(value)}::text`;
}
