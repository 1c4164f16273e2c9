import { describe, expect, test } from "bun:test";
import { databaseArgument, libpqEnvironment } from "../lib/postgres/libpq.ts";
import { type ConnectionTarget, parseConnectionUrl } from "../lib/postgres/url.ts";

const NO_FILE = "/dev/null/none";

const DEFAULTS = {
  PGHOST: "h",
  PGPORT: "5432",
  PGUSER: "u",
  PGDATABASE: "d",
  PGAPPNAME: "app",
  PGCONNECT_TIMEOUT: "5",
  PGCHANNELBINDING: "prefer",
  PGGSSENCMODE: "disable",
  PGSSLMODE: "prefer",
  PGSSLROOTCERT: NO_FILE,
  PGSSLCERT: NO_FILE,
  PGSSLKEY: NO_FILE,
  PGSSLCRL: NO_FILE,
  PGSSLCRLDIR: NO_FILE,
  PGPASSFILE: NO_FILE,
  PGSERVICEFILE: NO_FILE,
  PGSYSCONFDIR: NO_FILE,
};

const TRANSLATED: readonly (readonly [sentence: string, url: string, differs: Record<string, string>])[] = [
  ["everything is given, nothing is left to a default", "postgres://u@h/d", {}],
  ["a password", "postgres://u:a%23+b@h/d", { PGPASSWORD: "a#+b" }],
  ["a port", "postgres://u@h:1/d", { PGPORT: "1" }],
  ["an IPv6 address has no brackets", "postgres://u@[::1]/d", { PGHOST: "::1" }],
  ["no host is localhost and not a socket", "postgres://u@/d", { PGHOST: "localhost" }],
  ["a socket has no TLS", "postgres://u@/d?host=/tmp&sslmode=require", { PGHOST: "/tmp", PGSSLMODE: "disable" }],
  [
    "a socket has no channel binding",
    "postgres://u@/d?host=/tmp&channel_binding=require",
    { PGHOST: "/tmp", PGSSLMODE: "disable" },
  ],
  ["a database name as Prisma takes it", "postgres://u@h/a%20b", { PGDATABASE: "a%20b" }],
  ["no ?schema=, since a tool works on the whole database", "postgres://u@h/d?schema=s", {}],
  ["Prisma's own parameters are not passed on", "postgres://u@h/d?pgbouncer=true&connection_limit=1", {}],
  ["a timeout", "postgres://u@h/d?connect_timeout=0", { PGCONNECT_TIMEOUT: "0" }],
  ["options", "postgres://u@h/d?options=-c%20geqo%3Doff", { PGOPTIONS: "-c geqo=off" }],
  ["channel binding", "postgres://u@h/d?channel_binding=require", { PGCHANNELBINDING: "require" }],
  ["our name, not the app's", "postgres://u@h/d?application_name=theirs", {}],
  ["sslmode=disable", "postgres://u@h/d?sslmode=disable&sslaccept=strict", { PGSSLMODE: "disable" }],
  ["require does not verify", "postgres://u@h/d?sslmode=require", { PGSSLMODE: "require" }],
  [
    "require does not verify, even with a root",
    "postgres://u@h/d?sslmode=require&sslcert=ca",
    { PGSSLMODE: "require" },
  ],
  ["verify-full is Prisma's prefer", "postgres://u@h/d?sslmode=verify-full", {}],
  [
    "strict verifies with the given root",
    "postgres://u@h/d?sslmode=require&sslaccept=strict&sslcert=ca.pem",
    { PGSSLMODE: "verify-full", PGSSLROOTCERT: "ca.pem" },
  ],
  [
    "prefer with strict verifies too",
    "postgres://u@h/d?sslaccept=strict&sslcert=ca",
    { PGSSLMODE: "verify-full", PGSSLROOTCERT: "ca" },
  ],
  [
    "Prisma's client identity is not libpq's client certificate",
    "postgres://u@h/d?sslidentity=i.p12&sslpassword=x",
    {},
  ],
];

describe("a target as libpq's environment", () => {
  for (const [sentence, url, differs] of TRANSLATED) {
    test(sentence, () => {
      expect(libpqEnvironment(targetOf(url), { applicationName: "app" })).toEqual({ ...DEFAULTS, ...differs });
    });
  }

  test("strict takes the system's roots where none is given", () => {
    const target = targetOf("postgres://u@h/d?sslmode=require&sslaccept=strict");
    const { PGSSLMODE, PGSSLROOTCERT } = libpqEnvironment(target, {
      applicationName: "app",
      systemRootsPath: "/roots",
    });
    expect([PGSSLMODE, PGSSLROOTCERT]).toEqual(["verify-full", "/roots"]);
  });

  const encryption: readonly (readonly [query: string, isEncrypted: boolean | undefined, mode: string])[] = [
    ["sslaccept=strict", false, "disable"],
    ["sslaccept=strict", true, "verify-full"],
    ["sslaccept=strict", undefined, "verify-full"],
    ["sslaccept=strict&sslmode=require", false, "verify-full"],
    ["sslmode=prefer", false, "prefer"],
  ];
  for (const [query, isEncrypted, mode] of encryption) {
    test(`${query} on a connection that is encrypted: ${isEncrypted} is ${mode}`, () => {
      const environment = libpqEnvironment(targetOf(`postgres://u@h/d?${query}`), {
        applicationName: "app",
        isEncrypted,
      });
      expect(environment.PGSSLMODE).toBe(mode);
    });
  }

  test("settings follow the options of the connection string", () => {
    const settings = { statement_timeout: "0", "my.text": "a b\\c" };
    const target = targetOf("postgres://u@h/d?options=-c%20geqo%3Doff");
    expect(libpqEnvironment(target, { applicationName: "app", settings }).PGOPTIONS).toBe(
      "-c geqo=off -c statement_timeout=0 -c my.text=a\\ b\\\\c",
    );
  });
});

test("a database's name as an argument is never read as a connection string", () => {
  expect([databaseArgument("a=b"), databaseArgument("it's\\")]).toEqual(["dbname='a=b'", "dbname='it\\'s\\\\'"]);
});

function targetOf(url: string): ConnectionTarget {
  const parsed = parseConnectionUrl(url);
  if ("problem" in parsed) throw new Error(JSON.stringify(parsed));
  return parsed.target;
}
