/**
 * The commands by which a person restores a backup where nothing may be restored automatically: into a new database
 * beside the live one, which is put in its place by renames. The old one is kept, so that nothing is lost whoever wrote.
 * Pure.
 *
 * For bash or any other POSIX shell. No password is printed: the first command asks for it.
 */
import type { Backup } from "../backup/store.ts";
import { UNKNOWN_SETTING, writesUnknownSetting } from "../backup/unknown-setting.ts";
import { quoteIdentifier, quoteLiteral } from "../postgres/identifier.ts";
import { databaseArgument } from "../postgres/libpq.ts";
import { type ConnectionTarget, isSocket } from "../postgres/url.ts";
import { makeAsideName, stampOf } from "./aside-name.ts";
import { makeCreateExpression } from "./database-template.ts";

export interface InstructionOptions {
  /**
   * JSON list of the statements that set what belongs to the database as a whole, as the mark has them; undefined where
   * there is none.
   */
  readonly properties?: string | undefined;
  /** Empty or undefined: postgres, else template1. */
  readonly maintenanceDatabase?: string | undefined;
  /** The role of the connection string may not: the commands ask for the name of one that may. */
  readonly asksForRole?: boolean;
}

export function makeInstructions(
  backup: Pick<Backup, "path" | "manifest">,
  target: ConnectionTarget,
  { properties, maintenanceDatabase, asksForRole = false }: InstructionOptions = {},
): readonly string[] {
  const stamp = stampOf(backup.manifest.id);
  const restored = makeAsideName(target.database, "restore", stamp);
  const failed = makeAsideName(target.database, "failed", stamp);
  const maintenance = maintenanceDatabase || (target.database === "postgres" ? "template1" : "postgres");
  const reopen = asCommand(`ALTER DATABASE ${quoteIdentifier(target.database)} ALLOW_CONNECTIONS true`);
  const swap = makeSwap(target.database, restored, failed, properties).map(asCommand).join(" ");
  return [
    ...makeEnvironment(target, asksForRole),
    `psql -X -At -d ${quoteDatabase(target.database)} -c ${quote(makeCreateQuery(restored))} | ${psql(maintenance)} -f -`,
    makeRestore(backup, restored),
    // Somebody who can't be ended keeps the names as they are: then the door must not stay shut.
    `${psql(maintenance)} ${swap} || { ${psql(maintenance)} ${reopen}; false; }`,
    // The last to be run, and only when all is well.
    `# ${makeRemovalCommand(failed, target)}`,
  ];
}

/** All in one transaction, or stopping at the first error. */
function makeRestore({ path, manifest }: Pick<Backup, "path" | "manifest">, database: string): string {
  const psql = `psql -X -q -o /dev/null -v ON_ERROR_STOP=1 -d ${quoteDatabase(database)}`;
  if (manifest.format === "plain") return `${psql} -f ${quote(path)}`;
  const { toolVersion, serverVersion } = manifest;
  const isUnknown = writesUnknownSetting(Number.parseInt(toolVersion, 10), Number.parseInt(serverVersion, 10));
  if (!isUnknown) return `pg_restore --single-transaction -d ${quoteDatabase(database)} ${quote(path)}`;
  // As text, whose COMMIT is its last word. The setting is among the first lines.
  const text = `pg_restore --single-transaction -f - ${quote(path)}`;
  return `${text} | sed ${quote(`1,20s/^${UNKNOWN_SETTING}$//`)} | ${psql}`;
}

function makeEnvironment(target: ConnectionTarget, asksForRole: boolean): string[] {
  const tls = target.strictTls && target.sslMode !== "disable" ? "verify-full" : target.sslMode;
  const variables = {
    PGHOST: target.host,
    PGPORT: String(target.port),
    ...(asksForRole ? {} : { PGUSER: target.user }),
    ...(isSocket(target) ? {} : { PGSSLMODE: tls }),
  };
  const pairs = Object.entries(variables).map(([name, value]) => `${name}=${quote(value)}`);
  const password =
    target.password === undefined ? [] : ["stty -echo; read -r PGPASSWORD; stty echo; export PGPASSWORD"];
  const role = asksForRole ? ["read -r PGUSER; export PGUSER"] : [];
  return [`export ${pairs.join(" ")}`, ...role, ...password];
}

/** Encoding and locale can't be changed later, and are in no dump. */
function makeCreateQuery(name: string): string {
  return `SELECT ${makeCreateExpression(name)} FROM pg_database AS d WHERE datname = current_database()`;
}

/** The command that removes a database that is kept, for a person. */
export function makeRemovalCommand(database: string, target: ConnectionTarget): string {
  const maintenance = target.database === "postgres" ? "template1" : "postgres";
  return `${psql(maintenance)} -c ${quote(`DROP DATABASE ${quoteIdentifier(database)}`)}`;
}

/** Nobody can connect in between, and the two renames are one transaction. The first database keeps its door shut. */
function makeSwap(live: string, restored: string, failed: string, properties: string | undefined): string[] {
  const statements = properties === undefined ? [] : (JSON.parse(properties) as string[]);
  const setProperties =
    statements.length === 0 ? [] : [`REVOKE ALL ON DATABASE ${quoteIdentifier(live)} FROM PUBLIC`, ...statements];
  return [
    `ALTER DATABASE ${quoteIdentifier(live)} ALLOW_CONNECTIONS false`,
    // Of the sessions of other roles, this one may not see the kind.
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ${quoteLiteral(live)} AND usesysid IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend'`,
    "BEGIN",
    `ALTER DATABASE ${quoteIdentifier(live)} RENAME TO ${quoteIdentifier(failed)}`,
    `ALTER DATABASE ${quoteIdentifier(restored)} RENAME TO ${quoteIdentifier(live)}`,
    ...setProperties,
    "COMMIT",
  ];
}

function psql(database: string): string {
  return `psql -X -v ON_ERROR_STOP=1 -d ${quoteDatabase(database)}`;
}

function asCommand(statement: string): string {
  return `-c ${quote(statement)}`;
}

/** libpq reads a name with "=" in it, or that begins like a URL, as a whole connection string. */
function quoteDatabase(name: string): string {
  return quote(/=|^postgres(ql)?:\/\//.test(name) ? databaseArgument(name) : name);
}

/** As the shell takes it, whatever is in it. */
function quote(text: string): string {
  return /^[\w./:@%+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
