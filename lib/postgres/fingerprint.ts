/**
 * A fingerprint of the catalogs by (oid, xmin): which rows they have and which transaction wrote each of them.
 *
 * It answers "did anything change the schema?" in a fraction of a second, and errs on the safe side only: a change that
 * was undone by another one changes it too, while VACUUM, ANALYZE, FREEZE, temporary objects and whatever was rolled
 * back do not. Rows of tables are not catalogs: who wrote those is told by the proofs of `restore/proof.ts`.
 */
import { IS_FENCE_ENTRY } from "./fence-mark.ts";
import type { Session } from "./session.ts";

interface Catalog {
  readonly name: string;
  /** What identifies a row. */
  readonly key: string;
  /** Rows that are left out, such as temporary objects. */
  readonly where?: string;
  /** First server major that has it. */
  readonly since?: number;
}

const DEADLINE_MS = 120_000;

const NOT_TEMPORARY = `SELECT oid FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp_'`;
const RELATIONS = `SELECT oid FROM pg_class WHERE relpersistence <> 't'`;
/** Comments, labels and initial rights hang on any kind of object; those of temporary relations come and go. */
const NOT_ON_TEMPORARY = `NOT (classoid = 'pg_class'::regclass AND objoid NOT IN (${RELATIONS}))`;

const CATALOGS: readonly Catalog[] = [
  { name: "pg_class", key: "oid", where: "relpersistence <> 't'" },
  { name: "pg_attribute", key: "attrelid || '.' || attnum", where: `attrelid IN (${RELATIONS})` },
  { name: "pg_attrdef", key: "oid", where: `adrelid IN (${RELATIONS})` },
  { name: "pg_index", key: "indexrelid", where: `indrelid IN (${RELATIONS})` },
  { name: "pg_constraint", key: "oid", where: `conrelid = 0 OR conrelid IN (${RELATIONS})` },
  { name: "pg_trigger", key: "oid", where: `tgrelid IN (${RELATIONS})` },
  { name: "pg_rewrite", key: "oid", where: `ev_class IN (${RELATIONS})` },
  { name: "pg_inherits", key: "inhrelid || '.' || inhseqno", where: `inhrelid IN (${RELATIONS})` },
  { name: "pg_partitioned_table", key: "partrelid", where: `partrelid IN (${RELATIONS})` },
  { name: "pg_sequence", key: "seqrelid", where: `seqrelid IN (${RELATIONS})` },
  { name: "pg_policy", key: "oid" },
  { name: "pg_statistic_ext", key: "oid" },
  { name: "pg_foreign_table", key: "ftrelid" },
  { name: "pg_namespace", key: "oid", where: "nspname !~ '^pg_(toast_)?temp_'" },
  { name: "pg_type", key: "oid", where: `typnamespace IN (${NOT_TEMPORARY})` },
  { name: "pg_enum", key: "oid" },
  { name: "pg_range", key: "rngtypid" },
  { name: "pg_proc", key: "oid", where: `pronamespace IN (${NOT_TEMPORARY})` },
  { name: "pg_aggregate", key: "aggfnoid::oid" },
  { name: "pg_operator", key: "oid" },
  { name: "pg_opclass", key: "oid" },
  { name: "pg_opfamily", key: "oid" },
  { name: "pg_amop", key: "oid" },
  { name: "pg_amproc", key: "oid" },
  { name: "pg_am", key: "oid" },
  { name: "pg_cast", key: "oid" },
  { name: "pg_conversion", key: "oid" },
  { name: "pg_collation", key: "oid" },
  { name: "pg_language", key: "oid" },
  { name: "pg_transform", key: "oid" },
  { name: "pg_ts_config", key: "oid" },
  { name: "pg_ts_config_map", key: "mapcfg || '.' || maptokentype || '.' || mapseqno" },
  { name: "pg_ts_dict", key: "oid" },
  { name: "pg_ts_parser", key: "oid" },
  { name: "pg_ts_template", key: "oid" },
  { name: "pg_extension", key: "oid" },
  { name: "pg_event_trigger", key: "oid" },
  { name: "pg_foreign_data_wrapper", key: "oid" },
  { name: "pg_foreign_server", key: "oid" },
  { name: "pg_publication", key: "oid" },
  { name: "pg_publication_rel", key: "oid" },
  { name: "pg_publication_namespace", key: "oid", since: 15 },
  { name: "pg_default_acl", key: "oid" },
  { name: "pg_init_privs", key: "classoid || '.' || objoid || '.' || objsubid", where: NOT_ON_TEMPORARY },
  { name: "pg_description", key: "classoid || '.' || objoid || '.' || objsubid", where: NOT_ON_TEMPORARY },
  {
    name: "pg_seclabel",
    key: "classoid || '.' || objoid || '.' || objsubid || '.' || provider",
    where: NOT_ON_TEMPORARY,
  },
  { name: "pg_largeobject_metadata", key: "oid" },
  // What belongs to the database as a whole, and lives in catalogs that all databases share.
  { name: "pg_database", key: "oid", where: "datname = current_database()" },
  {
    name: "pg_db_role_setting",
    key: "setdatabase || '.' || setrole",
    // A fence of ours writes its row anew each time. The mark's properties tell whether it holds the same.
    where:
      "setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()) " +
      `AND NOT EXISTS (SELECT FROM unnest(setconfig) AS entry WHERE ${IS_FENCE_ENTRY})`,
  },
  {
    name: "pg_shdescription",
    key: "classoid || '.' || objoid",
    where:
      "classoid = 'pg_database'::regclass AND objoid = (SELECT oid FROM pg_database WHERE datname = current_database())",
  },
];

/** Only a superuser reads the rows of pg_user_mapping and pg_subscription: their readable parts stand in for xmin. */
const READABLE_PARTS = [
  `SELECT 'user mapping ' || m::text FROM pg_user_mappings m`,
  `SELECT 'subscription ' || subname || ' ' || subowner || ' ' || subenabled || ' ' || subpublications::text
   FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())`,
];

/**
 * The statement that answers one row with `fingerprint`. Its names are resolved in pg_catalog, whatever the session's
 * search_path is, unless that names pg_catalog behind another schema.
 */
export function makeFingerprintQuery(serverVersionNumber: number): string {
  const major = Math.floor(serverVersionNumber / 10_000);
  const rows = CATALOGS.filter(({ since = 0 }) => major >= since).map(
    ({ name, key, where }) =>
      `SELECT '${name} ' || ${key} || ':' || xmin FROM ${name}${where === undefined ? "" : ` WHERE ${where}`}`,
  );
  return `SELECT md5(string_agg(entry, ',' ORDER BY entry COLLATE "C")) AS fingerprint
    FROM (${[...rows, ...READABLE_PARTS].join("\nUNION ALL ")}) AS entries(entry)`;
}

/** @throws what the session throws */
export async function readFingerprint(session: Session): Promise<string> {
  const { version } = await readRow<{ version: number }>(
    session,
    `SELECT current_setting('server_version_num')::int AS "version"`,
  );
  return (await readRow<{ fingerprint: string }>(session, makeFingerprintQuery(version))).fingerprint;
}

async function readRow<Row extends object>(session: Session, query: string): Promise<Row> {
  const rows = await session.query<Row>(query, { during: "read the catalog fingerprint", deadlineMs: DEADLINE_MS });
  if (rows[0] === undefined) throw new Error("a statement that always answers one row has answered none");
  return rows[0];
}
