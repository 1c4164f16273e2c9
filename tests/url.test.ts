import { describe, expect, test } from "bun:test";
import type { UrlProblem } from "../lib/errors.ts";
import { type ConnectionTarget, isRemote, isSocket, parseConnectionUrl, redactUrl } from "../lib/postgres/url.ts";
import { addSessionOption } from "../lib/postgres/url-options.ts";

const DEFAULTS: ConnectionTarget = {
  user: "u",
  password: undefined,
  host: "h",
  port: 5432,
  database: "d",
  schema: undefined,
  sslMode: "prefer",
  strictTls: false,
  sslRootCertificatePath: undefined,
  sslIdentityPath: undefined,
  sslIdentityPassword: undefined,
  connectTimeoutMs: 5000,
  applicationName: undefined,
  options: undefined,
  channelBinding: "prefer",
  pgbouncer: false,
};

/** What must not be seen in any answer to a string that can't be used. */
const SECRET = "s3cr3t";

const UNDERSTOOD: readonly (readonly [sentence: string, url: string, differs: Partial<ConnectionTarget>])[] = [
  ["postgresql:// is a scheme", "postgresql://u@h/d", {}],
  ["postgres:// is a scheme", "postgres://u@h/d", {}],
  ["a scheme may be in upper case", "PostgreSQL://u@h/d", {}],
  ["what surrounds a value does not count", " \n postgres://u@h/d\n", {}],
  ["a broken line is joined", "postgres://u@h\n/d", {}],
  ["the port is 5432", "postgres://u@h/d", { port: 5432 }],
  ["a port is taken", "postgres://u@h:6543/d", { port: 6543 }],
  ["an empty port is the default", "postgres://u@h:/d", {}],
  ["the highest port", "postgres://u@h:65535/d", { port: 65_535 }],
  ["a password", "postgres://u:p@h/d", { password: "p" }],
  ["an empty password is none", "postgres://u:@h/d", { password: undefined }],
  ["no user at all", "postgres://h/d", { user: "" }],
  ["a password without a user", "postgres://:p@h/d", { user: "", password: "p" }],
  ["a user is decoded", "postgres://a%40b%2Fc@h/d", { user: "a@b/c" }],
  ["a password is decoded", "postgres://u:%23%2F%3F%25%40%3A@h/d", { password: "#/?%@:" }],
  ["a plus in a password is a plus", "postgres://u:a+b@h/d", { password: "a+b" }],
  ["a password may hold a raw @", "postgres://u:a@b@h/d", { password: "a@b" }],
  ["a password may hold a raw :", "postgres://u:a:b@h/d", { password: "a:b" }],
  ["a password may hold a raw [", "postgres://u:a[b]@h/d", { password: "a[b]" }],
  ["a password may hold raw letters of any script", "postgres://u:비밀번호@h/d", { password: "비밀번호" }],
  ["a % that begins no code is a %", "postgres://u%:50%off%@h/d", { user: "u%", password: "50%off%" }],
  ["a password is decoded once", "postgres://u:%2541@h/d", { password: "%41" }],
  ["no host is localhost", "postgres:///d", { user: "", host: "localhost" }],
  ["no host behind a user is localhost", "postgres://u@/d", { host: "localhost" }],
  ["the case of a host is kept", "postgres://u@Db.Example/d", { host: "Db.Example" }],
  ["an IPv6 address loses its brackets", "postgres://u@[2001:db8::1]:1234/d", { host: "2001:db8::1", port: 1234 }],
  ["an IPv6 address without a port", "postgres://u@[::1]/d", { host: "::1" }],
  ["host= goes before the authority's host", "postgres://u@h:1234/d?host=other", { host: "other", port: 1234 }],
  [
    "host= may be a socket's folder",
    "postgres://u@localhost/d?host=/var/run/postgresql",
    { host: "/var/run/postgresql" },
  ],
  ["host= is decoded", "postgres://u@/d?host=%2Ftmp%2Fa+b", { host: "/tmp/a b" }],
  ["an empty host= is none", "postgres://u@h/d?host=", {}],
  ["host= loses its brackets", "postgres://u@h/d?host=[::1]", { host: "::1" }],
  ["no path is the database postgres", "postgres://u@h", { database: "postgres" }],
  ["no path before parameters is postgres", "postgres://u@h?schema=s", { database: "postgres", schema: "s" }],
  ["a bare slash is the database of the user", "postgres://u@h/", { database: "u" }],
  ["a database name is NOT decoded", "postgres://u@h/a%20b", { database: "a%20b" }],
  ["a plus in a database name is a plus", "postgres://u@h/a+b", { database: "a+b" }],
  ["only the first part of a path counts", "postgres://u@h/d/e", {}],
  ["a database name may hold a raw @ behind a user", "postgres://u@h/a@b", { database: "a@b" }],
  ["a fragment does not count", "postgres://u@h/d#x", {}],
  ["a fragment behind parameters does not count", "postgres://u@h/d?schema=s#x", { schema: "s" }],
  ["a schema", "postgres://u@h/d?schema=s", { schema: "s" }],
  ["commas belong to the schema's name", "postgres://u@h/d?schema=a,b", { schema: "a,b" }],
  ["an empty schema is none", "postgres://u@h/d?schema=", {}],
  ["a plus in a parameter is a space", "postgres://u@h/d?application_name=a+b%2Bc", { applicationName: "a b+c" }],
  ["the last of several wins", "postgres://u@h/d?schema=a&schema=b", { schema: "b" }],
  [
    "an @ in a parameter is nothing special",
    "postgres://h/d?application_name=a@b",
    { user: "", applicationName: "a@b" },
  ],
  ["unknown parameters are dropped", "postgres://u@h/d?uselibpqcompat=true&x=y&port=1", {}],
  ["a parameter without a value", "postgres://u@h/d?x", {}],
  ["sslmode=disable", "postgres://u@h/d?sslmode=disable", { sslMode: "disable" }],
  ["sslmode=require", "postgres://u@h/d?sslmode=require", { sslMode: "require" }],
  ["sslmode=verify-full is prefer", "postgres://u@h/d?sslmode=verify-full", {}],
  ["sslmode=no-verify is prefer", "postgres://u@h/d?sslmode=no-verify", {}],
  [
    "an unknown sslmode does not undo a known one",
    "postgres://u@h/d?sslmode=require&sslmode=x",
    { sslMode: "require" },
  ],
  ["sslaccept=strict", "postgres://u@h/d?sslaccept=strict", { strictTls: true }],
  ["sslaccept=accept_invalid_certs", "postgres://u@h/d?sslaccept=accept_invalid_certs", {}],
  ["an unknown sslaccept is strict", "postgres://u@h/d?sslaccept=x", { strictTls: true }],
  ["sslcert is the root", "postgres://u@h/d?sslcert=./ca.pem", { sslRootCertificatePath: "./ca.pem" }],
  [
    "an identity and its password",
    "postgres://u@h/d?sslidentity=i.p12&sslpassword=p%26q",
    { sslIdentityPath: "i.p12", sslIdentityPassword: "p&q" },
  ],
  ["a timeout is in seconds", "postgres://u@h/d?connect_timeout=12", { connectTimeoutMs: 12_000 }],
  ["a timeout of 0 is none", "postgres://u@h/d?connect_timeout=0", { connectTimeoutMs: 0 }],
  ["a timeout as Rust reads it", "postgres://u@h/d?connect_timeout=%2B7", { connectTimeoutMs: 7000 }],
  ["a timeout beyond any timer", "postgres://u@h/d?connect_timeout=9999999999", { connectTimeoutMs: 2_000_000_000 }],
  ["options", "postgres://u@h/d?options=-c%20geqo%3Doff", { options: "-c geqo=off" }],
  ["channel_binding=require", "postgres://u@h/d?channel_binding=require", { channelBinding: "require" }],
  ["an unknown channel_binding is prefer", "postgres://u@h/d?channel_binding=x", {}],
  ["pgbouncer=true", "postgres://u@h/d?pgbouncer=true", { pgbouncer: true }],
  ["pgbouncer=false", "postgres://u@h/d?pgbouncer=false", {}],
  ["parameters of the pool", "postgres://u@h/d?connection_limit=5&pool_timeout=0&statement_cache_size=0", {}],
  [
    "the key of a local prisma+postgres URL holds the real one",
    `prisma+postgres://localhost:51213/?api_key=${localKey({ databaseUrl: "postgres://u:p@h/d?schema=한글" })}`,
    { password: "p", schema: "한글" },
  ],
];

const HOSTS: readonly (readonly [host: string, isRemote: boolean])[] = [
  ["/var/run/postgresql", false],
  ["localhost", false],
  ["LocalHost", false],
  ["127.0.0.1", false],
  ["127.8.9.10", false],
  ["::1", false],
  ["db", true],
  ["10.0.0.1", true],
  ["0.0.0.0", true],
  ["::2", true],
  ["localhost.example.com", true],
  ["127.0.0.1.example.com", true],
];

const REFUSED: readonly (readonly [sentence: string, url: string, problem: UrlProblem])[] = [
  ["nothing", "", { kind: "empty" }],
  ["only spaces", " \n\t", { kind: "empty" }],
  ["any text", SECRET, { kind: "not-a-url" }],
  ["a value that kept its quotes", `"postgres://u:${SECRET}@h/d"`, { kind: "not-a-url" }],
  ["libpq's key and value form", `host=h password=${SECRET}`, { kind: "not-a-url" }],
  ["a scheme without slashes", `postgres:u:${SECRET}@h/d`, { kind: "not-a-url" }],
  ["another database", `mysql://u:${SECRET}@h/d`, { kind: "scheme", scheme: "mysql" }],
  ["a file", "file:///dev.db", { kind: "scheme", scheme: "file" }],
  ["prisma://", `prisma://h/?api_key=${SECRET}`, { kind: "accelerate" }],
  [
    "a remote prisma+postgres://",
    `prisma+postgres://accelerate.prisma-data.net/?api_key=${SECRET}`,
    { kind: "accelerate" },
  ],
  ["a local prisma+postgres:// without a key", "prisma+postgres://localhost:1/", { kind: "accelerate" }],
  ["a local one with a broken key", `prisma+postgres://localhost:1/?api_key=${SECRET}`, { kind: "accelerate" }],
  [
    "a local one whose key holds no connection string",
    `prisma+postgres://localhost:1/?api_key=${localKey({ databaseUrl: `prisma://x?api_key=${SECRET}` })}`,
    { kind: "accelerate" },
  ],
  ["several hosts", `postgres://u:${SECRET}@a,b/d`, { kind: "several-hosts" }],
  ["several hosts with ports", `postgres://u:${SECRET}@a:1,b:2/d`, { kind: "several-hosts" }],
  ["several hosts in host=", `postgres://u:${SECRET}@h/d?host=a,b`, { kind: "several-hosts" }],
  ["a port that is no number", `postgres://u:${SECRET}@h:x/d`, { kind: "port", value: "x" }],
  ["a port that is too high", `postgres://u:${SECRET}@h:65536/d`, { kind: "port", value: "65536" }],
  ["port 0", `postgres://u:${SECRET}@h:0/d`, { kind: "port", value: "0" }],
  ["a negative port", `postgres://u:${SECRET}@h:-1/d`, { kind: "port", value: "-1" }],
  ["an IPv6 address without brackets", "postgres://u@::1/d", { kind: "port", value: ":1" }],
  ["an IPv6 address without its end", "postgres://u@[::1/d", { kind: "not-a-url" }],
  ["a user and a password without a host", `postgres://u:${SECRET}`, { kind: "port", value: "***" }],
  ["a password with a raw #", `postgres://u:a#${SECRET}@h/d`, { kind: "percent-encoding", part: "password" }],
  ["a password with a raw /", `postgres://u:a/${SECRET}@h/d`, { kind: "percent-encoding", part: "password" }],
  ["a password with a raw ?", `postgres://u:a?${SECRET}@h/d`, { kind: "percent-encoding", part: "password" }],
  [
    "a password of digits with a raw #",
    `postgres://u:12#${SECRET}@h/d`,
    { kind: "percent-encoding", part: "password" },
  ],
  [
    "a password of digits with a raw /",
    `postgres://u:12/${SECRET}@h/d`,
    { kind: "percent-encoding", part: "password" },
  ],
  [
    "a password with a raw ? and later a =",
    `postgres://u:12?${SECRET}@h/d?a=b`,
    { kind: "percent-encoding", part: "password" },
  ],
  ["a user with a raw /", `postgres://a/b:${SECRET}@h/d`, { kind: "percent-encoding", part: "user" }],
  ["a code that is no UTF-8", `postgres://u:${SECRET}%ff@h/d`, { kind: "percent-encoding", part: "password" }],
  ["libpq's encoded socket", `postgres://u:${SECRET}@%2Ftmp/d`, { kind: "percent-encoding", part: "host" }],
  [
    "a timeout that is no number",
    `postgres://u:${SECRET}@h/d?connect_timeout=5s`,
    { kind: "parameter", name: "connect_timeout", value: "5s" },
  ],
  [
    "a negative timeout",
    `postgres://u:${SECRET}@h/d?pool_timeout=-1`,
    { kind: "parameter", name: "pool_timeout", value: "-1" },
  ],
  [
    "a wrong number that a right one follows",
    "postgres://u@h/d?connection_limit=x&connection_limit=1",
    { kind: "parameter", name: "connection_limit", value: "x" },
  ],
  ["an empty number", "postgres://u@h/d?connect_timeout=", { kind: "parameter", name: "connect_timeout", value: "" }],
  ["pgbouncer=1", "postgres://u@h/d?pgbouncer=1", { kind: "parameter", name: "pgbouncer", value: "1" }],
];

test.each(HOSTS)("%s: remote %p", (host, expected) => {
  expect(isRemote({ host })).toBe(expected);
});

describe("a connection string that Prisma understands", () => {
  for (const [sentence, url, differs] of UNDERSTOOD) {
    test(sentence, () => {
      expect(parseConnectionUrl(url)).toEqual({ target: { ...DEFAULTS, ...differs } });
    });
  }
});

describe("a connection string that can't be used", () => {
  for (const [sentence, url, problem] of REFUSED) {
    test(sentence, () => {
      const parsed = parseConnectionUrl(url);
      expect(parsed).toEqual({ problem });
      expect(JSON.stringify(parsed)).not.toContain(SECRET);
    });
  }
});

describe("passwords and users", () => {
  const alphabet = [
    ...Array.from({ length: 95 }, (_, index) => String.fromCharCode(0x20 + index)),
    ..."éñ한글😀\u00a0\u0301\u200d",
  ];

  test("every printable character comes back from its code, alone and among others", () => {
    for (const character of alphabet) {
      for (const text of [character, `a${character}`, `${character}1`, `${character}${character}`, `:${character}@`]) {
        const encoded = encodeURIComponent(text);
        const parsed = parseConnectionUrl(`postgresql://${encoded}:${encoded}@h/d`);
        expect(parsed).toEqual({ target: { ...DEFAULTS, user: text, password: text } });
      }
    }
  });

  test("a raw character is taken as it is, or refused as one that needs its code; never as something else", () => {
    const refused = new Set<string>();
    for (const character of alphabet) {
      const parsed = parseConnectionUrl(`postgresql://u:a${character}b@h/d`);
      if ("target" in parsed) expect(parsed.target).toEqual({ ...DEFAULTS, password: `a${character}b` });
      else expect(parsed.problem).toEqual({ kind: "percent-encoding", part: "password" });
      if ("problem" in parsed) refused.add(character);
    }
    expect([...refused].sort()).toEqual(["#", "/", "?"]);
  });
});

describe("what is shown of a connection string", () => {
  const shown: readonly (readonly [url: string, text: string])[] = [
    [`postgres://u:${SECRET}@h/d`, "postgresql://u:***@h:5432/d"],
    ["postgres://u@h/d", "postgresql://u@h:5432/d"],
    ["postgres://h/d", "postgresql://h:5432/d"],
    [
      `postgres://a%40b:${SECRET}@[::1]:1/d?schema=a+b&sslpassword=${SECRET}`,
      "postgresql://a%40b:***@[::1]:1/d?schema=a%20b",
    ],
    [`postgres://u:${SECRET}@h/d?host=/tmp`, "postgresql://u:***@localhost:5432/d?host=/tmp"],
    [`postgres://u:${SECRET}#@h/d`, "***"],
    [SECRET, "***"],
    ["", "***"],
  ];
  for (const [url, text] of shown) {
    test(`${url} is shown as ${text}`, () => {
      expect(redactUrl(url)).toBe(text);
    });
  }

  test("no cut or twisted connection string shows the password or throws", () => {
    const whole = `postgresql://user:${SECRET}@host:5432/db?schema=public&sslpassword=${SECRET}`;
    for (let at = 0; at <= whole.length; at += 1) {
      for (const junk of ["", "#", "%", "/", "?", "@", ":", "[", "]", ",", "\0", "\ud800"]) {
        const text = `${whole.slice(0, at)}${junk}${whole.slice(at)}`;
        const parsed = parseConnectionUrl(text);
        if ("problem" in parsed) expect(JSON.stringify(parsed)).not.toContain(SECRET);
        expect(redactUrl(text)).not.toContain(SECRET);
        expect(redactUrl(whole.slice(0, at) + junk)).not.toContain(SECRET);
      }
    }
  });
});

test("a host that begins with a slash is a socket", () => {
  expect([isSocket({ host: "/tmp" }), isSocket({ host: "localhost" })]).toEqual([true, false]);
});

test("an option is added to what a connection string has already, and only where it has a place", () => {
  const option = "-c a=b";
  const optionsOf = (url: string) => {
    const parsed = parseConnectionUrl(addSessionOption(url, option));
    return "target" in parsed ? parsed.target.options : parsed.problem;
  };
  expect(optionsOf("postgresql://u:p@h:5432/db")).toBe(option);
  expect(optionsOf("postgresql://u:p%23@h:5432/db?schema=s#fragment")).toBe(option);
  expect(optionsOf("postgres://u@h/db?options=-c%20c%3Dd&schema=s")).toBe(`-c c=d ${option}`);
  for (const untouched of ["", "file:dev.db", "postgresql://u@h/db?pgbouncer=true", "prisma://x/?api_key=y"]) {
    expect(addSessionOption(untouched, option)).toBe(untouched);
  }
});

function localKey(content: object): string {
  return Buffer.from(JSON.stringify(content)).toString("base64url");
}
