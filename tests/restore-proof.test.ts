/** The judgement on who else has written, as a table. What the evidence is worth is tested on a real server. */
import { describe, expect, test } from "bun:test";
import type { Counters, Presence } from "../lib/restore/evidence.ts";
import { type Evidence, judgeProof, type MarkedEvidence, type ProofReason } from "../lib/restore/proof.ts";

const PLACE = { databaseOid: "16384", systemIdentifier: "7300000000000000001", timeline: "00000001" };
const ALONE: Presence = { otherClients: 0, preparedTransactions: 0, subscriptions: 0, workerExtensions: [] };
const COUNTERS: Counters = {
  sessions: "100",
  databaseReset: null,
  serverReset: "1700000000.5",
  serverStarted: "1700000001.5",
  walSenderAccesses: null,
};
const MARK: MarkedEvidence = {
  serverMajor: 15,
  place: PLACE,
  snapshot: "700:700:",
  counters: COUNTERS,
  presence: ALONE,
  sessionsOpened: 4,
};
/** Three sessions of ours since the mark, and the server has counted three. */
const OWN = { sessionsOpened: 7 };
const COUNTED: Counters = { ...COUNTERS, sessions: "103" };
/** Something has committed, so that A says no and B has to tell. */
const BUSY: Evidence = { place: PLACE, presence: ALONE, counters: COUNTED, transactions: "committed" };

test("A holds when nothing but our own has committed, whoever is or was there", () => {
  const evidence: Evidence = {
    place: PLACE,
    presence: { otherClients: 9, preparedTransactions: 1, subscriptions: 1, workerExtensions: ["pg_cron"] },
    counters: { ...COUNTERS, sessions: "999", databaseReset: "1.0", walSenderAccesses: "9" },
    transactions: "none-committed",
  };
  expect(judgeProof(MARK, evidence, OWN)).toEqual({ proven: "A", reasons: [] });
  expect(judgeProof(MARK, evidence, { sessionsOpened: undefined })).toEqual({ proven: "A", reasons: [] });
});

test("B holds when all sessions were ours", () => {
  expect(judgeProof(MARK, BUSY, OWN)).toEqual({ proven: "B", reasons: ["transactions-committed"] });
  expect(judgeProof(MARK, { ...BUSY, transactions: "unknown" }, OWN)).toEqual({
    proven: "B",
    reasons: ["transactions-unknown"],
  });
});

describe("what B can't do without", () => {
  const marks: readonly (readonly [string, Partial<MarkedEvidence>, ProofReason])[] = [
    ["a server that counts surely", { serverMajor: 14 }, "server-before-15"],
    ["nobody at the mark", { presence: { ...ALONE, otherClients: 1 } }, "clients-at-mark"],
    [
      "no prepared transaction at the mark",
      { presence: { ...ALONE, preparedTransactions: 1 } },
      "prepared-transactions",
    ],
    ["no subscription at the mark", { presence: { ...ALONE, subscriptions: 1 } }, "subscriptions"],
    ["no worker at the mark", { presence: { ...ALONE, workerExtensions: ["pg_cron"] } }, "worker-extensions"],
  ];
  test.each(marks)("%s", (_, changes, reason) => {
    expect(judgeProof({ ...MARK, ...changes }, BUSY, OWN)).toEqual({
      proven: undefined,
      reasons: ["transactions-committed", reason],
    });
  });

  const verdicts: readonly (readonly [string, Partial<Evidence>, ProofReason])[] = [
    ["nobody now", { presence: { ...ALONE, otherClients: 1 } }, "clients-now"],
    ["no prepared transaction", { presence: { ...ALONE, preparedTransactions: 1 } }, "prepared-transactions"],
    ["no subscription", { presence: { ...ALONE, subscriptions: 1 } }, "subscriptions"],
    ["no worker", { presence: { ...ALONE, workerExtensions: ["timescaledb"] } }, "worker-extensions"],
    ["not one session more", { counters: { ...COUNTED, sessions: "104" } }, "sessions-uncounted"],
    ["not one session less", { counters: { ...COUNTED, sessions: "102" } }, "sessions-uncounted"],
    ["the database's counters", { counters: { ...COUNTED, databaseReset: "1700000002.5" } }, "statistics-reset"],
    [
      "no work of replication connections",
      { counters: { ...COUNTED, walSenderAccesses: "1" } },
      "replication-connections",
    ],
  ];
  test.each(verdicts)("%s", (_, changes, reason) => {
    expect(judgeProof(MARK, { ...BUSY, ...changes }, OWN)).toEqual({
      proven: undefined,
      reasons: ["transactions-committed", reason],
    });
  });

  test("a number of our own that is known", () => {
    expect(judgeProof(MARK, BUSY, { sessionsOpened: undefined })).toEqual({
      proven: undefined,
      reasons: ["transactions-committed", "sessions-unknown"],
    });
  });
});

test("a session of ours that the server has not counted is a reason, not a surplus that hides a stranger", () => {
  expect(judgeProof(MARK, BUSY, { sessionsOpened: 8 }).proven).toBeUndefined();
});

describe("ids of another life of the server prove nothing: a crash gives some out again", () => {
  const lives: readonly (readonly [Partial<Counters>, ProofReason])[] = [
    [{ serverStarted: "1700000002.5" }, "server-restarted"],
    [{ serverReset: "1700000002.5" }, "statistics-reset"],
  ];
  test.each(lives)("%j", (changes, reason) => {
    const evidence: Evidence = { ...BUSY, counters: { ...COUNTED, ...changes }, transactions: "none-committed" };
    expect(judgeProof(MARK, evidence, OWN)).toEqual({ proven: undefined, reasons: [reason] });
  });
});

describe("ids of another server prove nothing", () => {
  test.each(Object.keys(PLACE) as (keyof typeof PLACE)[])("another %s", (key) => {
    const evidence: Evidence = { ...BUSY, place: { ...PLACE, [key]: "9" }, transactions: "none-committed" };
    expect(judgeProof(MARK, evidence, OWN)).toEqual({ proven: undefined, reasons: ["other-server"] });
  });
});
