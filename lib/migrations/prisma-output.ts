/** What the Prisma CLI prints, made safe to show, and the one fact taken from it: which database it works on. */
import { stripVTControlCharacters } from "node:util";
import { parseConnectionUrl } from "../postgres/url.ts";

/** Any URL with a password, whoever's it is. */
const URL_PASSWORD = /([a-z][a-z0-9+.-]*:\/\/[^\s:/@"'`]*):[^\s"'`]*@/gi;

/** A shorter one would blacken ordinary words; inside a URL it is always found. */
const SECRET_LENGTH_MIN = 4;

/**
 * Takes colours, passwords and connection strings out of a line.
 *
 * @param urls connection strings whose passwords may not be shown, empty ones allowed
 */
export function makeLineCleaner(urls: readonly string[]): (line: string) => string {
  const secrets = urls.flatMap(secretsOf).sort((a, b) => b.length - a.length);
  return (line) => {
    let text = stripVTControlCharacters(line);
    for (const secret of secrets) text = text.replaceAll(secret, "***");
    return text.replaceAll(URL_PASSWORD, "$1:***@");
  };
}

function secretsOf(url: string): string[] {
  const parsed = parseConnectionUrl(url);
  if ("problem" in parsed) return url === "" ? [] : [url];
  const { password, sslIdentityPassword } = parsed.target;
  return [password, sslIdentityPassword]
    .filter((secret) => secret !== undefined)
    .flatMap((secret) => [secret, encodeURIComponent(secret)])
    .concat(url)
    .filter((secret) => secret.length >= SECRET_LENGTH_MIN);
}

/** Which database the CLI says it works on. */
export interface Datasource {
  readonly database: string;
  /** As the connection string's authority has it, without brackets. */
  readonly host: string;
  readonly port: number;
}

/**
 * The datasource that a line of the CLI names; undefined for any other line, also where a driver adapter stands in.
 *
 * @see packages/internals/src/utils/getDbInfo.ts, as bundled in 6.19 and 7.10
 */
export function readDatasource(line: string): Datasource | undefined {
  const match = /^Datasource ".*": PostgreSQL database "(.*)", schemas? ".*" at "\[?([^"\]]*?)\]?(?::(\d+))?"$/.exec(
    line,
  );
  if (match === null) return undefined;
  const [, database = "", host = "", port = "5432"] = match;
  return { database, host, port: Number(port) };
}
