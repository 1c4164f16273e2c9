/**
 * The first lines of a plain dump: they make `psql "$DATABASE_URL" < backup.sql` refuse a database that is not empty.
 *
 * Poured over a live database the bare dump would end with exit code 0, with rows doubled and nothing put back.
 * ASCII wherever the server parses: not every database's encoding knows Hangul. So the Korean words are bytes that are
 * decoded only when they are shown, and only where the database and the client are both UTF-8.
 */

/** A restore that has emptied the database in its own transaction sets this, since what it may not drop stays. */
export const IN_PLACE_SETTING = { name: "prisma_safe_deploy.restore", value: "in-place" } as const;

const KOREAN_MESSAGE = "이 백업은 복원되지 않았습니다. 데이터베이스가 비어 있지 않습니다. 바뀐 것은 없습니다.";
const KOREAN_HINT = "비어 있는 새 데이터베이스에 복원하십시오.";

/**
 * @param fileName the dump's own, for the command that is shown; only the characters of our own names
 */
export function makeGuard(fileName: string): string {
  const command = `createdb NEW_DATABASE && psql -X -d NEW_DATABASE -f ${fileName}`;
  return `-- prisma-safe-deploy: this backup refuses to be restored into a database that is not empty.
-- 이 백업은 비어 있지 않은 데이터베이스에는 복원되지 않습니다.
--   ${command}
\\set ON_ERROR_STOP on
DO $prisma_safe_deploy$
DECLARE
  held text;
  english_only boolean := pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.<>) 'UTF8'
    OR pg_catalog.current_setting('client_encoding') OPERATOR(pg_catalog.<>) 'UTF8';
  refusal text := 'this backup was not restored: the database is not empty. Nothing was changed.';
  advice text := 'Restore it into a new, empty database: ${command}';
BEGIN
  IF pg_catalog.current_setting('${IN_PLACE_SETTING.name}', true) OPERATOR(pg_catalog.=) '${IN_PLACE_SETTING.value}' THEN
    RETURN;
  END IF;
  PERFORM pg_catalog.set_config('search_path', '', false);
  SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) INTO held
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
      AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e')
    ORDER BY 1 LIMIT 1;
  IF FOUND THEN
    IF NOT english_only THEN
      refusal := refusal || ' ' || pg_catalog.convert_from(pg_catalog.decode('${hexOf(KOREAN_MESSAGE)}', 'hex'), 'UTF8');
      advice := advice || ' ' || pg_catalog.convert_from(pg_catalog.decode('${hexOf(KOREAN_HINT)}', 'hex'), 'UTF8');
    END IF;
    RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = refusal, HINT = advice,
      DETAIL = pg_catalog.format('Database "%s" holds %s.', pg_catalog.current_database(), held);
  END IF;
END
$prisma_safe_deploy$;

`;
}

function hexOf(text: string): string {
  return Buffer.from(text, "utf8").toString("hex");
}
