/** Advice for errors of the server, in English. Pure. */
import type { HintKind } from "./hints.ts";

export const enHints: { readonly [K in HintKind]: readonly string[] } = {
  "not-null": [
    "Existing rows have no value. Go in three steps: add the column without NOT NULL, fill it by UPDATE, ALTER COLUMN ... SET NOT NULL",
    "Or give the new column a DEFAULT.",
  ],
  "duplicate-key": [
    "There are rows with the same value. Remove the duplicates before the unique index or constraint is created.",
    "To find them: SELECT <column>, count(*) FROM <table> GROUP BY <column> HAVING count(*) > 1;",
  ],
  "foreign-key": [
    "There are rows that refer to a missing row, or rows that are still referred to. Mend or delete them first, and insert parents before children.",
    "For a large table: ADD CONSTRAINT ... NOT VALID, mend the rows, then VALIDATE CONSTRAINT in a later migration",
  ],
  check: [
    "There are rows that do not meet the condition. Mend the rows first.",
    "Or: ADD CONSTRAINT ... NOT VALID, mend the rows, then VALIDATE CONSTRAINT in a later migration",
  ],
  "type-mismatch": [
    "This type can not be converted automatically. Say how: ALTER COLUMN <column> TYPE <type> USING <column>::<type>",
    "Where the column has a DEFAULT: DROP DEFAULT first, change the type, then SET DEFAULT again.",
  ],
  "value-not-castable": [
    "There are values that can not be converted to the new type. Mend them first, or handle them by a CASE in the USING expression.",
    "For an enum value: a migration with ALTER TYPE ... ADD VALUE has to come first.",
  ],
  "value-too-long": [
    "There are values that are longer than the new length. Shorten them, or make the column longer.",
    "To find them: SELECT * FROM <table> WHERE length(<column>) > <length>;",
  ],
  "value-out-of-range": [
    "There are values outside of the range of the type. Use a larger one, for example bigint or numeric, or mend them.",
  ],
  "dependent-objects": [
    "Other objects depend on it. Drop those in DETAIL first (views, foreign keys, policies), and create them again in the same migration.",
    "CASCADE drops those objects as well, and does not create them again.",
  ],
  permission: [
    "The role lacks a right. ALTER and DROP are for the owner, and CREATE needs the CREATE right on the schema.",
    "For the schema: GRANT CREATE ON SCHEMA public TO <role>; (not given by default from PostgreSQL 15 on)",
  ],
  "lock-timeout": [
    "Another client holds the table. Deploy again when the transaction of the session shown above has ended.",
    "To try for longer: --lock-retry 30m; to wait for longer at a time: --lock-timeout 10s",
  ],
  deadlock: [
    "It was in conflict with another session, and the server has cancelled it. Deploy again.",
    "If it happens again, deploy when there are fewer writes, or split the migration that locks several tables.",
  ],
  "disk-full": [
    "The disk of the server is full. Make room and deploy again.",
    "An ALTER TABLE that rewrites the table, or a new index, needs as much space again.",
  ],
  "out-of-memory": [
    'For "out of shared memory": one transaction holds too many locks. Split the migration, or raise max_locks_per_transaction and restart the server.',
    'For "out of memory": check the memory of the server, work_mem and maintenance_work_mem.',
  ],
  "extension-unavailable": [
    "The files of the extension are not on the server. Run the server from an image or package that has them (a managed service has a list of allowed ones).",
    "What can be installed: SELECT name, default_version FROM pg_available_extensions;",
  ],
  "not-supported": [
    "The version or the settings of the server do not support this. Check the version of the server: SELECT version();",
  ],
  "already-exists": [
    "The name is taken: an earlier deploy was applied in part, or it was created outside of the migrations (drift).",
    "Where all of the migration is in the database already: deploy resolve --applied <name>",
  ],
  "does-not-exist": [
    'There is no such name. Check that the migration that creates it comes first, and check letter case and quotes ("User" is not user).',
    "Where it is in another schema, write the schema before the name, or check ?schema= in the connection string.",
  ],
  "function-missing": [
    "There is no such function or operator for these types. Where an extension has it, CREATE EXTENSION first (for example uuid-ossp for uuid_generate_v4).",
    "Where the extension is in another schema, write the schema before the name.",
  ],
  "schema-missing": [
    "There is no such schema. CREATE SCHEMA in the migration first, or check ?schema= in the connection string.",
  ],
  "in-transaction": [
    "This statement can not run inside of a transaction. Remove BEGIN and COMMIT from the file, and give the statement a migration of its own.",
  ],
  "enum-value": [
    "A new enum value can be used only after a commit. Add it in one migration, use it in a later one, and remove BEGIN and COMMIT.",
  ],
  cancelled: [
    "The statement took longer than its limit, or somebody has cancelled it.",
    "The limit: --statement-timeout, or a SET statement_timeout in the script",
  ],
  syntax: ["Check the syntax at the place that is shown. It may be that of a newer PostgreSQL."],
  "byte-order-mark": ["The file holds a byte order mark (U+FEFF). Save it as UTF-8 without BOM."],
};
