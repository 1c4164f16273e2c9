/** What a restore writes for others: the list that pg_restore works by, and the commands that a person copies. */
import { describe, expect, test } from "bun:test";
import { mkdirSync, readdirSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Manifest } from "../lib/backup/manifest.ts";
import { parseConnectionUrl } from "../lib/postgres/url.ts";
import { listClusterChanges } from "../lib/restore/cluster.ts";
import { selectEntries } from "../lib/restore/contents-list.ts";
import { makeInstructions } from "../lib/restore/instructions.ts";
import { removeLeftovers } from "../lib/restore/leftovers.ts";
import { temporaryDirectory } from "./support/cluster.ts";

const SURVIVORS = {
  entries: ["3079 16500", "2615 2200", "1259 17000", "0 17000", "6104 17100"],
  extensionNames: ["hstore", "uuid-ossp"],
  comments: ["COMMENT - CAST (public.label AS text)", 'COMMENT app TEXT SEARCH PARSER "Prs"'],
  roles: [
    { name: "app", isOwn: true },
    { name: "admin", isOwn: false },
    { name: "my admin", isOwn: true },
    { name: "pg_database_owner", isOwn: true },
  ],
};

describe("entries of an archive", () => {
  const cases: readonly (readonly [string, boolean])[] = [
    [";", true],
    ["; Archive created at 2024-12-19 14:30:22 UTC", true],
    ["215; 1259 16400 TABLE app users app", true],
    ["3500; 0 16400 TABLE DATA app users app", true],
    ["2; 3079 16500 EXTENSION - hstore ", false],
    ["3501; 0 0 COMMENT - EXTENSION hstore ", false],
    ['3501; 0 0 COMMENT - EXTENSION "uuid-ossp" ', false],
    ["3501; 0 0 COMMENT - CAST (public.label AS text) ", false],
    ["3501; 0 0 COMMENT - CAST (public.colour AS text) ", true],
    ['3501; 0 0 COMMENT app TEXT SEARCH PARSER "Prs" ', false],
    ["3; 3079 16501 EXTENSION - citext ", true],
    ["3502; 0 0 COMMENT - EXTENSION citext ", true],
    ["5; 2615 2200 SCHEMA - public pg_database_owner", false],
    ["3503; 0 0 ACL - SCHEMA public pg_database_owner", true],
    // Of a role that we may not act as, and of one whose name only ends like it.
    ["216; 1259 17000 TABLE app shared admin", false],
    ["3504; 0 17000 TABLE DATA app shared admin", false],
    ["3505; 0 0 ACL app TABLE shared admin", false],
    ["3506; 0 0 COMMENT app TABLE mine my admin", true],
    ["3507; 1259 18000 INDEX app of_somebody admin", false],
    ["3508; 6104 17100 PUBLICATION - everything app", false],
    // The id of one catalog is no id of another.
    ["217; 1255 16500 FUNCTION app f(integer) app", true],
  ];
  test.each(cases)("%s", (line, isKept) => {
    expect(selectEntries(line, SURVIVORS)).toBe(isKept ? line : `;${line}`);
  });

  test("order and all other lines stay", () => {
    const list = "; head\n;\n5; 2615 2200 SCHEMA - public x\n215; 1259 16400 TABLE app users app\n";
    expect(selectEntries(list, SURVIVORS)).toBe(
      "; head\n;\n;5; 2615 2200 SCHEMA - public x\n215; 1259 16400 TABLE app users app\n",
    );
  });
});

describe("commands for a person", () => {
  const PASSWORD = "s3cret'$(x)";

  function instructions(
    database: string,
    format: Manifest["format"] = "plain",
    properties?: string,
  ): readonly string[] {
    const url = `postgresql://me:${encodeURIComponent(PASSWORD)}@db.example:5433/app?sslmode=require`;
    const parsed = parseConnectionUrl(url);
    if ("problem" in parsed) throw new Error(parsed.problem.kind);
    const manifest = { id: "backup_20241219_143022", format } as Manifest;
    return makeInstructions(
      { path: "/app/my backups/b.sql", manifest },
      { ...parsed.target, database },
      { properties },
    );
  }

  test("the password is asked for and nowhere printed", () => {
    expect(instructions("app").join("\n")).not.toContain("s3cret");
    expect(instructions("app")[1]).toContain("read -r PGPASSWORD");
  });

  test("each format has its own tool", () => {
    expect(instructions("app").join("\n")).toContain("-f '/app/my backups/b.sql'");
    expect(instructions("app", "custom").join("\n")).toContain("pg_restore --single-transaction -d");
  });

  test("names are quoted for SQL and for the shell", () => {
    const text = instructions(`o'dd "name`).join("\n");
    expect(text).toContain(`ALTER DATABASE "o'\\''dd ""name" RENAME TO "o'\\''dd ""name_failed_20241219_143022"`);
  });

  test("a name that would be cut keeps its end, and a letter is never cut in two", () => {
    const text = instructions("ü".repeat(31)).join("\n");
    expect(text).toContain(`"${"ü".repeat(17)}_failed_20241219_143022"`);
    expect(text).toContain(`"${"ü".repeat(17)}_restore_20241219_143022"`);
  });

  test("the maintenance database is never the one that is renamed", () => {
    expect(instructions("postgres").join("\n")).toContain('-d template1 -c \'ALTER DATABASE "postgres"');
  });

  test("what belongs to the database as a whole is set again, behind rights that nobody has been given", () => {
    const properties = JSON.stringify(['GRANT CONNECT ON DATABASE "app" TO "app_ro"']);
    const swap = instructions("app", "plain", properties).find((line) => line.includes("RENAME"));
    expect(swap).toContain(
      `-c 'REVOKE ALL ON DATABASE "app" FROM PUBLIC' -c 'GRANT CONNECT ON DATABASE "app" TO "app_ro"' -c COMMIT`,
    );
    expect(instructions("app").join("\n")).not.toContain("REVOKE");
  });
});

test("changes of what all databases share are told by kind", () => {
  const before = { roles: "a", memberships: "b", databases: "c", tablespaces: "d", settings: "e" };
  expect(listClusterChanges(before, before)).toEqual([]);
  expect(listClusterChanges(before, { ...before, roles: "x", settings: "y" })).toEqual(["roles", "settings"]);
});

test("only old working folders of killed restores are removed", async () => {
  const directory = temporaryDirectory();
  for (const name of [".restore-old", ".restore-young", "backup_20241219_143022", ".restored"]) {
    mkdirSync(join(directory, name));
    writeFileSync(join(directory, name, "dump.sql"), "rows");
  }
  const now = new Date(statSync(join(directory, ".restore-young")).mtimeMs + 1000);
  for (const name of [".restore-old", ".restored"]) utimesSync(join(directory, name), 0, 0);
  expect(await removeLeftovers(directory, now)).toEqual([join(directory, ".restore-old")]);
  expect(readdirSync(directory).sort()).toEqual([".restore-young", ".restored", "backup_20241219_143022"]);
  expect(await removeLeftovers(join(directory, "missing"), now)).toEqual([]);
});
