/** How much there is to dump, asked of the server. */
import type { Session } from "../postgres/session.ts";
import type { DataSize } from "./estimate.ts";

const DEADLINE_MS = 60_000;

/** Asking for a table's size waits for whoever holds it for himself alone: then it is not worth an answer. */
const LOCK_TIMEOUT = "2s";

const SIZE_QUERY = `
  SELECT coalesce(sum(pg_relation_size(c.oid)), 0)::float8 AS "tableBytes",
    coalesce(sum(pg_relation_size(nullif(c.reltoastrelid, 0))), 0)::float8 AS "toastBytes",
    pg_relation_size('pg_catalog.pg_largeobject')::float8 AS "largeObjectBytes"
  FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
  WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'`;

/** The whole database with its indexes is no less than what will be dumped. */
const ROUGH_QUERY = `
  SELECT pg_database_size(current_database())::float8 AS "tableBytes", 0::float8 AS "toastBytes",
    0::float8 AS "largeObjectBytes"`;

/** @throws what the session throws */
export async function readDataSize(session: Session): Promise<DataSize> {
  const ask = async (text: string) => {
    const [size] = await session.query<DataSize>(text, {
      during: "read the size of the database",
      deadlineMs: DEADLINE_MS,
    });
    if (size === undefined) throw new Error("a statement that always answers one row has answered none");
    return size;
  };
  const { ServerError } = await import("../postgres/session.ts");
  return await ask(`SET LOCAL lock_timeout = '${LOCK_TIMEOUT}'; ${SIZE_QUERY}`).catch(async (cause: unknown) => {
    if (!(cause instanceof ServerError)) throw cause;
    return await ask(ROUGH_QUERY);
  });
}
