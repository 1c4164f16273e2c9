/** Which client tool is taken, and with which arguments. */
import { describe, expect, test } from "bun:test";
import { chmodSync, mkdirSync, realpathSync, symlinkSync, writeFileSync } from "node:fs";
import { basename, dirname, join, relative } from "node:path";
import { makeArchiveTextArguments, makeDumpArguments } from "../lib/backup/arguments.ts";
import { type ClientTool, chooseTool, formatServerVersion, parseToolVersion } from "../lib/postgres/tool-choice.ts";
import { findTool } from "../lib/postgres/tools.ts";
import { temporaryDirectory } from "./support/cluster.ts";

function tool(version: string, path = `/opt/${version}/pg_dump`): ClientTool {
  return { name: "pg_dump", path, version, major: Number.parseInt(version, 10) };
}

describe("a tool's version is read from its own words", () => {
  test.each([
    ["pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", { version: "15.18", major: 15 }],
    ["psql (PostgreSQL) 18.0\n", { version: "18.0", major: 18 }],
    ["pg_restore (PostgreSQL) 18beta1\n", { version: "18beta1", major: 18 }],
    ["pg_dump (PostgreSQL) 9.6.24\n", { version: "9.6.24", major: 9 }],
    ["pg_dump (EnterpriseDB) 15.4.0\n", { version: "15.4.0", major: 15 }],
    ["pg_dump: command not found\n", undefined],
    ["", undefined],
  ])("%j", (output, expected) => {
    expect(parseToolVersion(output)).toEqual(expected);
  });
});

describe("of the tools that were found", () => {
  test.each([
    ["the server's own major is taken, though a newer one is there", ["15.18", "17.6", "14.2"], 15, "15.18"],
    ["the newest minor of that major is taken", ["15.3", "15.18", "15.9"], 15, "15.18"],
    ["the nearest newer major is taken when its own is missing", ["18.1", "16.4", "14.20"], 15, "16.4"],
    ["a release is newer than its beta", ["18beta2", "18.0", "18rc1"], 18, "18.0"],
    ["a beta will do when there is nothing else", ["18beta2"], 18, "18beta2"],
  ])("%s", (_, versions, serverMajor, expected) => {
    const choice = chooseTool(
      versions.map((version) => tool(version)),
      serverMajor,
    );
    expect(choice).toEqual({ kind: "chosen", tool: tool(expected) });
  });

  test("none serves a newer server, and the newest is named", () => {
    const choice = chooseTool([tool("14.2"), tool("15.18")], 16);
    expect(choice).toEqual({ kind: "too-old", newest: tool("15.18") });
  });

  test("nothing is chosen from nothing", () => {
    expect(chooseTool([], 15)).toEqual({ kind: "none" });
  });

  test("the first of two equal ones is taken: PATH comes before the usual folders", () => {
    const choice = chooseTool([tool("15.18", "/first/pg_dump"), tool("15.18", "/second/pg_dump")], 15);
    expect(choice).toMatchObject({ tool: { path: "/first/pg_dump" } });
  });
});

test("a server's version number is written as the server writes it", () => {
  expect(formatServerVersion(150018)).toBe("15.18");
  expect(formatServerVersion(130000)).toBe("13.0");
});

describe("arguments", () => {
  const snapshot = "00000003-00000002-1";
  const path = "/backups/.a.partial";

  test("of a plain dump", () => {
    expect(makeDumpArguments("plain", { tool: tool("15.18"), path, snapshot, lockWaitMs: 10_000 })).toEqual([
      "--format=plain",
      "--lock-wait-timeout=10000",
      "--snapshot=00000003-00000002-1",
    ]);
  });

  test("of a custom dump before zstd", () => {
    expect(makeDumpArguments("custom", { tool: tool("15.18"), path, snapshot: undefined, lockWaitMs: 0 })).toEqual([
      "--format=custom",
      "--no-sync",
      "--file=/backups/.a.partial",
      "--compress=1",
      "--lock-wait-timeout=0",
    ]);
  });

  test("of a custom dump with zstd", () => {
    expect(makeDumpArguments("custom", { tool: tool("16.0"), path, snapshot, lockWaitMs: 3000 })).toEqual([
      "--format=custom",
      "--no-sync",
      "--file=/backups/.a.partial",
      "--compress=zstd:3",
      "--lock-wait-timeout=3000",
      "--snapshot=00000003-00000002-1",
    ]);
  });

  test("of an archive's text; a file's name is never read as an option", () => {
    expect(makeArchiveTextArguments("-x.dump")).toEqual(["--file=-", "--", "-x.dump"]);
  });
});

describe("on this machine", () => {
  test("a real program is found, and not the distribution's wrapper script", async () => {
    const found = await findTool("pg_dump", 130000);
    expect(basename(realpathSync(found.path))).toBe("pg_dump");
    expect(found.version).toMatch(/^\d+[\d.]*$/);
    expect(found.major).toBeGreaterThanOrEqual(13);
  });

  test("all three tools are of one version, since a dump of one is read by the others", async () => {
    const tools = await Promise.all((["pg_dump", "pg_restore", "psql"] as const).map((name) => findTool(name, 130000)));
    expect(new Set(tools.map(({ version }) => version)).size).toBe(1);
  });

  test("no tool is an error that names it, and a relative entry of PATH is not searched", async () => {
    const empty = temporaryDirectory();
    const real = await findTool("pg_dump", 130000);
    const relativePath = relative(process.cwd(), dirname(real.path));
    const search = { path: `:.:${relativePath}:${empty}`, folders: [`${empty}/*/bin`, `${empty}/nowhere/*`] };
    await expect(findTool("pg_dump", 150000, search)).rejects.toMatchObject({
      code: "TOOL_NOT_FOUND",
      fields: { tool: "pg_dump" },
    });
  });

  test("only older ones are an error that says which, how old, and for what", async () => {
    const found = await findTool("pg_dump", 130000);
    const search = { path: dirname(found.path), folders: [] };
    await expect(findTool("pg_dump", 990003, search)).rejects.toMatchObject({
      code: "TOOL_TOO_OLD",
      fields: { tool: "pg_dump", path: found.path, toolVersion: found.version, serverVersion: "99.3" },
    });
  });

  test("a wrapper is asked only when no program fits, and what is no tool at all is passed over", async () => {
    const folder = temporaryDirectory();
    const real = await findTool("pg_dump", 130000);
    const program = (path: string, version: string) => {
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, `#!/bin/sh\necho "pg_dump (PostgreSQL) ${version}"\n`);
      chmodSync(path, 0o755);
    };
    program(join(folder, "share/wrapper"), `${real.major + 1}.7`);
    mkdirSync(join(folder, "wrapped"));
    symlinkSync("../share/wrapper", join(folder, "wrapped/pg_dump"));
    program(join(folder, "broken/bin/pg_dump"), "of no version");
    mkdirSync(join(folder, "folder/bin/pg_dump"), { recursive: true });
    mkdirSync(join(folder, "text/bin"), { recursive: true });
    writeFileSync(join(folder, "text/bin/pg_dump"), "not executable");
    const search = { path: join(folder, "wrapped"), folders: [dirname(real.path), `${folder}/*/bin`] };
    expect(await findTool("pg_dump", real.major * 10_000, search)).toEqual(real);
    expect(await findTool("pg_dump", (real.major + 1) * 10_000, search)).toEqual({
      name: "pg_dump",
      path: join(folder, "wrapped/pg_dump"),
      version: `${real.major + 1}.7`,
      major: real.major + 1,
    });
  });
});
