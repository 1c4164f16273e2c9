/**
 * What psql runs before and behind the dump, in one session: locks, proof, wipe, proof; then the dump; then the
 * comparison, the proof once more, and the only COMMIT. Pure: the text of two files.
 *
 * psql stops at the first error, and a file that is cut short, a killed psql and a killed backend all end without the
 * COMMIT: there is no state in between.
 */
import { IN_PLACE_SETTING } from "../backup/guard.ts";
import type { TableRows } from "../backup/manifest.ts";
import { quoteLiteral } from "../postgres/identifier.ts";
import { CONTENT_QUERY, CONTENT_SETTINGS } from "./content.ts";
import { LIFE_EXPRESSION, SESSIONS_COUNTED_MAJOR } from "./evidence.ts";
import { HISTORY_EXPRESSION } from "./history-digest.ts";
import { makeProofBlock, type ProofScriptOptions } from "./proof-script.ts";
import { LOCK_BLOCK, makeWipeBlock, type WipeOptions } from "./wipe.ts";

export interface RestoreScriptOptions {
  readonly serverMajor: number;
  /** Undefined where a person gives up what others write. */
  readonly proof: ProofScriptOptions | undefined;
  readonly wipe: WipeOptions;
  readonly expected: ExpectedContent;
  readonly lockTimeoutMs: number;
}

/** What must be there before the COMMIT. */
export interface ExpectedContent {
  /** Answer of CONTENT_QUERY at the mark, JSON. Undefined where only the backup itself tells what it holds. */
  readonly content: string | undefined;
  /** Rows of each table as the dump holds them. */
  readonly tables: readonly TableRows[];
  readonly largeObjects: number;
  readonly history: { readonly schema: string; readonly digest: string } | undefined;
}

/** SQLSTATE when the restored content differs; its message is a JSON list of what does. */
export const DIFFERS_STATE = "PS003";

/** Before the backend's number, the transaction's, and the server's life, on a line of its own. */
export const TRANSACTION_WORD = "prisma-safe-deploy-transaction";
export const COMMITTED_WORD = "prisma-safe-deploy-committed";

const DIFFERENCES_MAX = 10;

export function makeBeginScript({ serverMajor, proof, wipe, lockTimeoutMs }: RestoreScriptOptions): string {
  return `\\encoding UTF8
${makeSettings(serverMajor, lockTimeoutMs)}
${serverMajor >= SESSIONS_COUNTED_MAJOR ? "SELECT pg_stat_force_next_flush();" : ""}
BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
SELECT '${TRANSACTION_WORD} ' || pg_backend_pid() || ' ' || pg_current_xact_id() || ' ' || ${LIFE_EXPRESSION};
${LOCK_BLOCK}
${proofBlock(proof)}
${makeWipeBlock(wipe)}
${proofBlock(proof)}
`;
}

/**
 * The proof comes first as well: what somebody else has made would only look like a difference.
 *
 * No command of psql's own in here: a dump that is cut short leaves psql refusing them, and not the COMMIT.
 */
export function makeEndScript({ serverMajor, proof, expected, lockTimeoutMs }: RestoreScriptOptions): string {
  return `${makeSettings(serverMajor, lockTimeoutMs)}
${CONTENT_SETTINGS};
${proofBlock(proof)}
${makeVerifyBlock(expected)}
${proofBlock(proof)}
COMMIT;
SELECT '${COMMITTED_WORD}';
`;
}

function proofBlock(proof: ProofScriptOptions | undefined): string {
  return proof === undefined ? "" : makeProofBlock(proof);
}

/** Nothing of the role's or the database's own may end the session, hide rows from it, or let the COMMIT be forgotten. */
function makeSettings(serverMajor: number, lockTimeoutMs: number): string {
  return `SET client_min_messages = warning;
SET search_path = '';
SET standard_conforming_strings = on;
SET default_transaction_read_only = off;
SET lock_timeout = ${lockTimeoutMs};
SET statement_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
${serverMajor >= TRANSACTION_TIMEOUT_MAJOR ? "SET transaction_timeout = 0;" : ""}
SET row_security = off;
${serverMajor >= CONNECTION_CHECK_MAJOR ? WATCH_CONNECTION : ""}
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';
SET ${IN_PLACE_SETTING.name} = '${IN_PLACE_SETTING.value}';`;
}

const TRANSACTION_TIMEOUT_MAJOR = 17;
const CONNECTION_CHECK_MAJOR = 14;

/** So that the locks of a restore whose container was killed are gone soon. Some platforms of the server can't do it. */
const WATCH_CONNECTION = `DO $watch$ BEGIN
  PERFORM set_config('client_connection_check_interval', '2s', false);
EXCEPTION WHEN OTHERS THEN NULL;
END $watch$;`;

/**
 * Compares what is there with what should be, and fails with DIFFERS_STATE. Needs CONTENT_SETTINGS in its transaction.
 *
 * Tables of extensions are left out: the dump holds some of their rows at most.
 */
export function makeVerifyBlock({ content, tables, largeObjects, history }: ExpectedContent): string {
  const rows = tables.map(({ schema, name, rows }) => ({ schema, name, rows }));
  return `DO $verify$
#variable_conflict use_column
DECLARE
  item record;
  counted bigint;
  history_digest text;
  differences text[] := '{}';
BEGIN
  FOR item IN SELECT * FROM json_to_recordset(${asJson(rows)}) AS x(schema text, name text, rows bigint) LOOP
    CONTINUE WHEN EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND deptype = 'e'
      AND objid = to_regclass(format('%I.%I', item.schema, item.name)));
    EXECUTE format('SELECT count(*) FROM ONLY %I.%I', item.schema, item.name) INTO counted;
    IF counted <> item.rows THEN
      differences := differences || format('%I.%I: %s rows, %s in the backup', item.schema, item.name, counted, item.rows);
    END IF;
  END LOOP;
  counted := (SELECT count(*) FROM pg_largeobject_metadata);
  IF counted <> ${largeObjects} THEN differences := differences || format('large objects: %s, %s in the backup', counted, ${largeObjects}); END IF;
${history === undefined ? "" : makeHistoryCheck(history)}
${content === undefined ? "" : makeContentCheck(content)}
  IF differences <> '{}' THEN
    RAISE EXCEPTION USING ERRCODE = '${DIFFERS_STATE}', MESSAGE = array_to_json(differences[1:${DIFFERENCES_MAX}])::text;
  END IF;
END
$verify$;`;
}

function makeContentCheck(content: string): string {
  return `  differences := differences || ARRAY(
    SELECT coalesce(expected.key, actual.key)
    FROM json_each_text(${quoteLiteral(content)}::json) AS expected
    FULL JOIN json_each_text((SELECT x."content"::json FROM (${CONTENT_QUERY}) AS x)) AS actual USING (key)
    WHERE expected.value IS DISTINCT FROM actual.value ORDER BY 1 LIMIT ${DIFFERENCES_MAX});`;
}

function makeHistoryCheck(history: { readonly schema: string; readonly digest: string }): string {
  return `  EXECUTE format('SELECT ${HISTORY_EXPRESSION.replaceAll("'", "''")} FROM %I._prisma_migrations AS m', ${quoteLiteral(history.schema)}) INTO history_digest;
  IF history_digest IS DISTINCT FROM ${quoteLiteral(history.digest)} THEN differences := differences || '_prisma_migrations'::text; END IF;`;
}

function asJson(value: unknown): string {
  return `${quoteLiteral(JSON.stringify(value))}::json`;
}
