import { describe, expect, test } from "bun:test";
import type { PeerCertificate } from "node:tls";
import postgres from "postgres";
import { driverOptions, startupParameters, tlsOptions } from "../lib/postgres/driver-options.ts";
import { prepareScramPassword } from "../lib/postgres/scram-password.ts";
import { type ConnectionTarget, parseConnectionUrl } from "../lib/postgres/url.ts";

describe("the startup message", () => {
  const rows: readonly (readonly [sentence: string, url: string, differs: Record<string, string>])[] = [
    ["names the user, the database and us", "postgres://u@h/d", {}],
    ["sets the search path of ?schema=", "postgres://u@h/d?schema=s", { search_path: '"s"' }],
    ["takes a comma as a part of the schema's name", "postgres://u@h/d?schema=a,b", { search_path: '"a,b"' }],
    ["quotes a schema's name", 'postgres://u@h/d?schema=a"b', { search_path: '"a""b"' }],
    ["hands the options on", "postgres://u@h/d?options=-c%20geqo%3Doff", { options: "-c geqo=off" }],
    ["holds nothing that PgBouncer refuses", "postgres://u@h/d?schema=s&options=-c%20a%3Db&pgbouncer=true", {}],
    ["holds nothing of Prisma's own parameters", "postgres://u@h/d?connection_limit=1&sslmode=require", {}],
  ];
  for (const [sentence, url, differs] of rows) {
    test(sentence, () => {
      const parameters = startupParameters(targetOf(url), { applicationName: "app" });
      expect(parameters).toEqual({ user: "u", database: "d", application_name: "app", ...differs });
    });
  }

  test("a wished setting wins", () => {
    const wishes = { applicationName: "app", settings: { search_path: "pg_catalog", lock_timeout: "3s" } };
    expect(startupParameters(targetOf("postgres://u@h/d?schema=s"), wishes)).toEqual({
      user: "u",
      database: "d",
      application_name: "app",
      search_path: "pg_catalog",
      lock_timeout: "3s",
    });
  });
});

describe("the driver's options", () => {
  test("nothing of them comes from the environment", () => {
    const names = "HOST PORT USER USERNAME PASSWORD DATABASE APPNAME SSL SSLNEGOTIATION MAX IDLE_TIMEOUT".split(" ");
    const more = "CONNECT_TIMEOUT MAX_LIFETIME MAX_PIPELINE BACKOFF KEEP_ALIVE PREPARE DEBUG FETCH_TYPES PUBLICATIONS";
    const variables = [...names, ...more.split(" ")].map((name) => `PG${name}`);
    const saved = variables.map((name) => process.env[name]);
    try {
      const parsed = () => {
        const { options } = postgres(driverOptions(targetOf("postgres://h/"), WISHES) as object);
        return JSON.stringify({ ...options, shared: undefined });
      };
      for (const name of variables) delete process.env[name];
      const without = parsed();
      for (const name of variables) process.env[name] = "31337";
      // The two that the driver fills in when they are empty: the startup message's own, empty ones win.
      expect(parsed().replaceAll(/"(user|database)":"31337"/g, "")).toBe(
        without.replaceAll(/"(user|database)":"[^"]+"/g, ""),
      );
      expect(without).toContain('"connection":{"application_name":"app","user":"","database":""}');
    } finally {
      for (const [index, name] of variables.entries()) {
        if (saved[index] === undefined) delete process.env[name];
        else process.env[name] = saved[index];
      }
    }
  });

  test("the password is never taken from elsewhere, also when there is none", () => {
    expect(driverOptions(targetOf("postgres://u@h/d"), WISHES).password()).toBe("");
    expect(driverOptions(targetOf("postgres://u:p@h/d"), WISHES).password()).toBe("p");
  });

  test("hosts with colons are left whole", () => {
    const { options } = postgres(driverOptions(targetOf("postgres://u@[2001:db8::1]:1/d"), WISHES) as object);
    expect([options.host, options.port]).toEqual([["2001:db8::1"], [1]]);
  });

  test("notices go to the one who asked, and never to the terminal", () => {
    const notices: object[] = [];
    const onNotice = (notice: object) => notices.push(notice);
    driverOptions(targetOf("postgres://u@h/d"), { applicationName: "app", onNotice }).onnotice({
      severity: "WARNING",
      message: "m",
      code: "01000",
    });
    driverOptions(targetOf("postgres://u@h/d"), WISHES).onnotice({ severity: "NOTICE", message: "dropped" });
    expect(notices).toEqual([{ severity: "WARNING", message: "m" }]);
  });

  test("a notice whose listener throws does no harm to the statement", () => {
    const onNotice = () => {
      throw new Error("a full disk");
    };
    const { onnotice } = driverOptions(targetOf("postgres://u@h/d"), { applicationName: "app", onNotice });
    expect(() => onnotice({ severity: "NOTICE", message: "m" })).not.toThrow();
  });
});

describe("TLS", () => {
  const refuse = (host: string) => new Error(`not ${host}`);
  const check = (url: string) => {
    const options = tlsOptions(targetOf(url), {}, refuse);
    return options?.checkServerIdentity?.("localhost", {} as PeerCertificate)?.message;
  };

  const rows: readonly (readonly [query: string, isVerified: boolean | undefined])[] = [
    ["", false],
    ["sslmode=require", false],
    ["sslmode=verify-full", false],
    ["sslmode=require&sslcert=ca.pem", false],
    ["sslmode=require&sslaccept=strict", true],
    ["sslaccept=strict", true],
    ["sslmode=disable", undefined],
    ["sslmode=disable&sslaccept=strict", undefined],
    ["sslmode=require&sslaccept=strict&host=/tmp", undefined],
  ];
  for (const [query, isVerified] of rows) {
    test(`?${query} verifies: ${isVerified}`, () => {
      const options = tlsOptions(targetOf(`postgres://u@h/d?${query}`), {}, refuse);
      expect(options?.rejectUnauthorized).toBe(isVerified);
    });
  }

  test("the certificate is compared with the host that was asked for", () => {
    expect(check("postgres://u@db/d?sslaccept=strict")).toBe("not db");
    expect(check("postgres://u@127.0.0.1/d?sslaccept=strict")).toBe("not 127.0.0.1");
    expect(check("postgres://u@db/d?sslmode=require")).toBeUndefined();
  });

  test("an address is not sent as a server's name", () => {
    const nameOf = (url: string) => tlsOptions(targetOf(url), {}, refuse)?.servername;
    expect(nameOf("postgres://u@db/d")).toBe("db");
    expect(nameOf("postgres://u@10.0.0.1/d")).toBeUndefined();
    expect(nameOf("postgres://u@[::1]/d")).toBeUndefined();
  });

  test("certificates are handed on", () => {
    const identity = new Uint8Array([1]);
    const options = tlsOptions(targetOf("postgres://u@h/d?sslpassword=p"), { root: "PEM", identity }, refuse);
    expect([options?.ca, options?.pfx, options?.passphrase]).toEqual(["PEM", identity as Buffer, "p"]);
  });
});

describe("a password for SCRAM", () => {
  const rows: readonly (readonly [sentence: string, password: string, prepared: string])[] = [
    ["ASCII stays", "a b\t'\\", "a b\t'\\"],
    ["composed letters stay", "é한글", "é한글"],
    ["decomposed letters are composed", "e\u0301\u1112\u1161\u11ab", "é한"],
    ["a lone consonant becomes a letter of its syllable", "ㅋ", "\u110f"],
    ["other spaces become a space", "a\u00a0b\u3000c", "a b c"],
    ["soft hyphens vanish", "a\u00adb", "ab"],
    ["full width becomes narrow", "ａ１", "a1"],
    ["what Unicode 3.2 did not know stays", "😀ａ", "😀ａ"],
    ["what may not be in it stays", "ａ\u0007", "ａ\u0007"],
    ["what would leave nothing stays", "\u00ad", "\u00ad"],
  ];
  for (const [sentence, password, prepared] of rows) {
    test(sentence, () => expect(prepareScramPassword(password)).toBe(prepared));
  }
});

const WISHES = { applicationName: "app" };

function targetOf(url: string): ConnectionTarget {
  const parsed = parseConnectionUrl(url);
  if ("problem" in parsed) throw new Error(JSON.stringify(parsed));
  return parsed.target;
}
