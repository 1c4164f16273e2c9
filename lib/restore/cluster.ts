/**
 * What all databases of a cluster share: a failed deploy's scripts may have changed it, and no restore of a database would
 * undo that. So it is compared before anything is restored, and where it is another one, nothing is.
 *
 * What this program itself does to the other databases is left out, by the traces that it leaves there and by nothing less
 * certain: a swap of one of them at any of its steps, and the fence of one that deploys with `--maintenance`.
 */
import { createHash } from "node:crypto";
import { keptEntries } from "../postgres/fence-mark.ts";
import type { Session } from "../postgres/session.ts";
import { readTrace } from "../postgres/swap-trace.ts";

/** Of what a database restore can't undo, by kind. */
export interface ClusterDigests {
  readonly roles: string;
  readonly memberships: string;
  readonly databases: string;
  readonly tablespaces: string;
  readonly settings: string;
}

/** One that is not the session's own. */
export interface OtherDatabase {
  readonly oid: string;
  readonly name: string;
  readonly owner: string;
  readonly isOpen: boolean;
  /** Sorted, those of a database that nobody has granted anything on being spelt out. */
  readonly rights: readonly string[];
  readonly comment: string | null;
}

/** A row of `pg_db_role_setting`. */
export interface StoredSettings {
  /** "0": of a role in every database. */
  readonly database: string;
  /** "0": of a database for every role. */
  readonly role: string;
  /** "name=value" */
  readonly entries: readonly string[];
}

const DEADLINE_MS = 300_000;

/** The passwords of roles are the superuser's to see, and are not compared. */
const CLUSTER_QUERY = `
  SELECT (SELECT md5(string_agg(concat_ws(' ', oid, rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin,
      rolreplication, rolbypassrls, rolconnlimit, extract(epoch FROM rolvaliduntil)), ';' ORDER BY oid)) FROM pg_roles)
      AS "roles",
    (SELECT coalesce(md5(string_agg(concat_ws(' ', roleid, member, admin_option, to_jsonb(m) -> 'inherit_option',
      to_jsonb(m) -> 'set_option'), ';' ORDER BY roleid, member, grantor)), '') FROM pg_auth_members AS m) AS "memberships",
    (SELECT coalesce(md5(string_agg(concat_ws(' ', oid, spcname, spcowner, spcacl, spcoptions), ';' ORDER BY oid)), '')
      FROM pg_tablespace) AS "tablespaces",
    (SELECT coalesce(json_agg(json_build_object('oid', oid::text, 'name', datname, 'owner', datdba::text, 'isOpen', datallowconn,
        'rights', ARRAY(SELECT a::text FROM unnest(coalesce(datacl, acldefault('d', datdba))) AS a ORDER BY 1),
        'comment', shobj_description(oid, 'pg_database'))), '[]')
      FROM pg_database WHERE datname <> current_database()) AS "databases",
    (SELECT coalesce(json_agg(json_build_object('database', setdatabase::text, 'role', setrole::text, 'entries', setconfig)), '[]')
      FROM pg_db_role_setting
      WHERE setdatabase <> (SELECT oid FROM pg_database WHERE datname = current_database())) AS "settings"`;

type ClusterRow = Pick<ClusterDigests, "roles" | "memberships" | "tablespaces"> & {
  readonly databases: readonly OtherDatabase[];
  readonly settings: readonly StoredSettings[];
};

/** @throws what the session throws */
export async function readClusterDigests(session: Session): Promise<ClusterDigests> {
  const options = { during: "read what all databases share", deadlineMs: DEADLINE_MS };
  const [row] = await session.query<ClusterRow>(CLUSTER_QUERY, options);
  if (row === undefined) throw new Error("a statement that always answers one row has answered none");
  const { databases, settings, ...digests } = row;
  return { ...digests, ...digestOthers(databases, settings) };
}

/** Of the other databases and their settings, as they would be without what this program does to them. Pure. */
export function digestOthers(
  databases: readonly OtherDatabase[],
  settings: readonly StoredSettings[],
): Pick<ClusterDigests, "databases" | "settings"> {
  const traced = databases.map((database) => ({ ...database, trace: readTrace(database.comment).trace }));
  const scratches = new Set(traced.flatMap(({ trace }) => (trace?.swap === "started" ? [trace.scratch] : [])));
  const isOurs = ({ trace, name, isOpen }: (typeof traced)[number]) =>
    // One that was kept, and that somebody has opened since, may be in use.
    trace?.swap === "replaced" ? !isOpen : trace?.swap !== "started" && (trace !== undefined || scratches.has(name));
  const ours = new Set(traced.filter(isOurs).map(({ oid }) => oid));
  const replacedBy = new Map(
    traced.flatMap(({ oid, trace }) => (trace?.swap === "replaced" && trace.by ? [[trace.by, oid] as const] : [])),
  );
  const identify = (oid: string) => findFirst(oid, replacedBy);
  const others = traced
    .filter(({ oid }) => !ours.has(oid))
    .map(({ oid, name, owner, isOpen, rights, trace }) => [
      identify(oid),
      name,
      owner,
      isOpen || trace?.swap === "started",
      rights,
    ]);
  const stored = settings
    .filter(({ database }) => !ours.has(database))
    .map(({ database, role, entries }) => [identify(database), role, unfence(role, entries).toSorted()] as const)
    .filter(([, , entries]) => entries.length > 0);
  return { databases: digest(others), settings: digest(stored) };
}

/** The database whose place it has taken, by however many swaps. */
function findFirst(oid: string, replacedBy: ReadonlyMap<string, string>): string {
  const seen = new Set<string>();
  let first = oid;
  for (let before = replacedBy.get(first); before !== undefined && !seen.has(before); before = replacedBy.get(first)) {
    seen.add(before);
    first = before;
  }
  return first;
}

function unfence(role: string, entries: readonly string[]): readonly string[] {
  return role === "0" ? keptEntries(entries) : entries;
}

function digest(rows: readonly unknown[]): string {
  const lines = rows.map((row) => JSON.stringify(row)).toSorted();
  return createHash("md5").update(lines.join("\n")).digest("hex");
}

/** Kinds of cluster-wide objects that changed. Pure. */
export function listClusterChanges(before: ClusterDigests, after: ClusterDigests): (keyof ClusterDigests)[] {
  const kinds = Object.keys(before) as (keyof ClusterDigests)[];
  return kinds.filter((kind) => before[kind] !== after[kind]);
}
