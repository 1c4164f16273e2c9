/** Whether a plain dump is whole, and what it holds: byte by byte, against every place where it can be cut. */
import { describe, expect, test } from "bun:test";
import { type DumpFindings, DumpScanner } from "../lib/backup/dump-scanner.ts";
import { makeGuard } from "../lib/backup/guard.ts";
import { makeRandom } from "./support/random.ts";

const HEADER = "--\n-- PostgreSQL database dump\n--\n\n";
const END = "--\n-- PostgreSQL database dump complete\n--\n\n";

function scan(text: string | Buffer, chunkBytes = Number.POSITIVE_INFINITY): DumpFindings {
  const bytes = Buffer.from(text as string);
  const scanner = new DumpScanner();
  const memory = Buffer.alloc(Math.min(chunkBytes, bytes.length));
  for (let at = 0; at < bytes.length; at += chunkBytes) {
    // The same memory for every chunk, as a reader does it.
    const length = bytes.copy(memory, 0, at, Math.min(at + chunkBytes, bytes.length));
    scanner.push(memory.subarray(0, length));
    memory.fill(0x27, 0, length);
  }
  return scanner.finish();
}

/** A dump with that SQL in it. */
function dump(sql: string): string {
  return `${HEADER}${sql}\n${END}`;
}

function whole(tables: [schema: string, name: string, rows: number][], largeObjects = 0): DumpFindings {
  return {
    kind: "whole",
    content: { tables: tables.map(([schema, name, rows]) => ({ schema, name, rows })), largeObjects },
  };
}

const reasonOf = (findings: DumpFindings) => (findings.kind === "damaged" ? findings.reason : "whole");

const DECOY = "--\n-- PostgreSQL database dump complete\n--\n\nCOPY public.decoy (a) FROM stdin;\n1\n\\.\n";

const readable: [name: string, sql: string, tables: [string, string, number][], largeObjects?: number][] = [
  ["no table", "CREATE SCHEMA a;\n", []],
  ["rows", "COPY public.t (a, b) FROM stdin;\n1\tx\n2\ty\n\\.\n", [["public", "t", 2]]],
  ["no row", "COPY public.t (a) FROM stdin;\n\\.\n", [["public", "t", 0]]],
  ["rows without columns", "COPY public.t  FROM stdin;\n\n\n\n\\.\n", [["public", "t", 3]]],
  [
    "rows that look like the end, like SQL, and like the end of the dump",
    `COPY public.t (a) FROM stdin;\n\\\\.\n\\.x\n\\N\nCOMMIT;\n-- PostgreSQL database dump complete\n'\n$$\n/*\n\\.\n`,
    [["public", "t", 8]],
  ],
  [
    "two tables, and one in two blocks",
    "COPY a.t (a) FROM stdin;\n1\n\\.\n\nCOPY b.t (a) FROM stdin;\n1\n\\.\n\nCOPY a.t (a) FROM stdin;\n2\n3\n\\.\n",
    [
      ["a", "t", 3],
      ["b", "t", 1],
    ],
  ],
  ["a table without a schema", "COPY t (a) FROM stdin;\n1\n\\.\n", [["", "t", 1]]],
  [
    "names with everything in them",
    'COPY "Odd Schema ünï"."Tab""le; DROP\n." ("a;b", "c"" FROM stdin;\n") FROM stdin;\nx\ty\n\\.\n',
    [["Odd Schema ünï", 'Tab"le; DROP\n.', 1]],
  ],
  ["a text", `COMMENT ON TABLE t IS 'it''s\n${DECOY}';\n`, []],
  ["a text that ends with a backslash", `SELECT '\\';\nCOPY public.t (a) FROM stdin;\n\\.\n`, [["public", "t", 0]]],
  ["an escape text", `SELECT E'\\'${DECOY}';\n`, []],
  ["an escape text with doubled quotes", `SELECT e'''${DECOY}\\'';\n`, []],
  ["a name that ends with e before a text", `SELECT typee'\\';\n`, []],
  [
    "texts with backslashes, where the server has them",
    `SET standard_conforming_strings = off;\nSELECT '\\'${DECOY}';\nSET standard_conforming_strings = on;\nSELECT '\\';\n`,
    [],
  ],
  ["a body in dollar quotes", `CREATE FUNCTION f() AS $_$ $$ ${DECOY} $x$ $_x$ ' $_$ LANGUAGE sql;\n`, []],
  ["a body in bare dollar quotes", `CREATE FUNCTION f() AS $$ $_$ ${DECOY} $1 ' $$ LANGUAGE sql;\n`, []],
  [
    "a dollar in a name, and parameters",
    `SELECT a$b$c, $1, $2$3 FROM "d$";\nSELECT ü$$ü;\nSELECT ${"x".repeat(200)}$$;\n`,
    [],
  ],
  ["a body that is SQL itself", "CREATE FUNCTION f() BEGIN ATOMIC\n SELECT 1;\n SELECT 2;\nEND;\n", []],
  ["a comment in a comment", `/* /* ${DECOY} */ ' */ SELECT 1;\n`, []],
  ["a quote in a line's comment", "SELECT 1 -- it's ;\n - 2;\n", []],
  ["the end's words within a statement", "SELECT 1\n-- PostgreSQL database dump complete\n+ 1;\n", []],
  [
    "COPY of other kinds",
    "COPY t TO stdout;\nCOPY t (\" FROM stdin;\") TO stdout;\nCOPY (SELECT ';') TO PROGRAM 'x';\n",
    [],
  ],
  [
    "large objects",
    "SELECT pg_catalog.lo_create('1');\nSELECT pg_catalog.lo_create('2');\nBEGIN;\n" +
      "SELECT pg_catalog.lowrite(0, '\\x27');\nCOMMIT;\nSELECT 'SELECT pg_catalog.lo_create(''3'')';\n",
    [],
    2,
  ],
];

describe("a whole dump is read, in chunks of any size:", () => {
  test.each(readable)("%s", (_, sql, tables, largeObjects = 0) => {
    const text = dump(sql);
    for (const chunkBytes of [Number.POSITIVE_INFINITY, 1, 2, 3, 7, 64, 65, 100]) {
      expect({ chunkBytes, findings: scan(text, chunkBytes) }).toEqual({
        chunkBytes,
        findings: whole(tables, largeObjects),
      });
    }
  });

  test.each(readable)("and no beginning of it passes for one: %s", (_, sql) => {
    const text = Buffer.from(dump(sql));
    const marker = text.lastIndexOf("-- PostgreSQL database dump complete");
    const needed = marker + "-- PostgreSQL database dump complete".length;
    const passing: number[] = [];
    for (let length = 0; length < text.length; length += 1) {
      if (scan(text.subarray(0, length)).kind === "whole") passing.push(length);
    }
    expect(passing[0]).toBe(needed);
  });
});

test("our own first lines are read as part of the dump, and do not count as one", () => {
  const guard = makeGuard("backup_20260101_000000.sql");
  expect(scan(guard + dump("COPY a.t (a) FROM stdin;\n1\n\\.\n"))).toEqual(whole([["a", "t", 1]]));
  expect(reasonOf(scan(guard))).toBe("it does not begin like a dump of pg_dump");
});

test("a \\restrict line asks for its \\unrestrict line, to the last letter of its key", () => {
  const text = `${HEADER}\\restrict abc123\n\nSELECT 1;\n${END}\\unrestrict abc123\n\n`;
  const unrestrict = text.indexOf("\\unrestrict");
  const complete = unrestrict + "\\unrestrict abc123".length;
  expect(scan(text)).toEqual(whole([]));
  expect(scan(text.slice(0, complete))).toEqual(whole([]));
  for (let length = unrestrict - 2; length < complete; length += 1) {
    expect(reasonOf(scan(text.slice(0, length)))).toBe("its last line (\\unrestrict) is missing");
  }
  const early = `${HEADER}\\restrict abc123\n\n\\unrestrict abc123\nSELECT 1;\n${END}`;
  expect(reasonOf(scan(early))).toBe("its last line (\\unrestrict) is missing");
});

const damaged: [name: string, text: string | Buffer, reason: string][] = [
  ["an empty file", "", "it is empty"],
  ["only spaces", "\n\n  \n", "it does not begin like a dump of pg_dump"],
  ["another kind of file", Buffer.from([0x1f, 0x8b, 8, 0, 255, 0, 10]), "it does not begin like a dump of pg_dump"],
  ["a script that is no dump", "CREATE TABLE a();\n", "it does not begin like a dump of pg_dump"],
  ["an end without a beginning", END, "it does not begin like a dump of pg_dump"],
  ["a cut after a whole statement", `${HEADER}SELECT 1;\n`, "its end marker is missing"],
  ["a cut in a statement", `${HEADER}SELECT 1`, "it ends in the middle of a statement"],
  ["a cut in a text", `${HEADER}SELECT ';\n${END}`, "it ends in the middle of a statement"],
  ["a cut in a body", `${HEADER}SELECT $a$;\n${END}`, "it ends in the middle of a statement"],
  ["a cut in a comment", `${HEADER}/*;\n${END}`, "it ends in the middle of a statement"],
  ["a cut in a COPY's header", `${HEADER}COPY public.t (a`, "it ends in the middle of a statement"],
  ["a cut in rows", `${HEADER}COPY "a b"."c" (a) FROM stdin;\n1\n`, "it ends inside the rows of a b.c"],
  ["a cut before the last row's end", `${HEADER}COPY a.t (a) FROM stdin;\n1\n\\.`, "it ends inside the rows of a.t"],
  ["rows without their end", dump("COPY a.t (a) FROM stdin;\n1\n"), "it ends inside the rows of a.t"],
  ["two dumps in one file", dump("SELECT 1;\n").repeat(2), "it goes on after its end marker"],
  ["a statement after the end", `${dump("SELECT 1;\n")}DROP TABLE a;\n`, "it goes on after its end marker"],
  ["rows after the end", `${dump("")}COPY a.t (a) FROM stdin;\n1\n\\.\n`, "it goes on after its end marker"],
  ["another command after the end", `${dump("")}\\connect b\n`, "it goes on after its end marker"],
  [
    "a COPY that pg_dump would not write",
    dump("COPY a.t (a) FROM stdin; SELECT 1;\n1\n\\.\n"),
    "it holds a COPY that pg_dump would not write",
  ],
  ["line ends of another system", dump("COPY a.t (a) FROM stdin;\n1\n\\.\n").replaceAll("\n", "\r\n"), ""],
];

describe("a dump that is not whole is told apart:", () => {
  test.each(damaged)("%s", (_, text, reason) => {
    for (const chunkBytes of [Number.POSITIVE_INFINITY, 1024 * 1024]) {
      const findings = scan(text, chunkBytes);
      expect(findings.kind).toBe("damaged");
      if (reason !== "") expect(reasonOf(findings)).toBe(reason);
    }
  });
});

const SHORT = ["", "1", "22", "\\N", "\\.x", "x\\.", "\\\\.", "..", "333", "4444", "a\tb\tc", "55555555\t1"];

describe("short rows are counted with the same result, wherever they begin and end:", () => {
  test.each([
    ["of every kind", SHORT, [0, 1, 2, 3, 200]],
    ["as short as the end of the rows", ["22", "\\N"], [1, 500, 3000]],
    ["without anything in them", [""], [0, 1, 5, 2000]],
    ["with long ones between them", [...SHORT, "x".repeat(70), "y".repeat(3000)], [50, 400]],
  ])("%s", (_, kinds, counts) => {
    const random = makeRandom(1);
    const pick = (from: readonly string[]) => from[Math.floor(random() * from.length)] ?? "";
    for (let round = 0; round < 12; round += 1) {
      const blocks = counts.map((rows, index) => ({ name: `t${index}`, rows }));
      // A comment before it moves a block by a few bytes.
      const texts = blocks.map(({ name, rows }) => {
        const lines = Array.from({ length: rows }, () => `${pick(kinds)}\n`).join("");
        return `--${"-".repeat(Math.floor(random() * 9))}\nCOPY a.${name} (x) FROM stdin;\n${lines}\\.\n`;
      });
      const expected = whole(blocks.map(({ name, rows }) => ["a", name, rows]));
      for (const chunkBytes of [Number.POSITIVE_INFINITY, 997, 1020, 4096, 4099]) {
        expect(scan(dump(texts.join("")), chunkBytes)).toEqual(expected);
      }
    }
  });

  test("at every place of a block", () => {
    for (let bytes = 0; bytes < 2100; bytes += 1) {
      const first = "x".repeat(bytes % 5);
      const rows = Math.floor(bytes / 5);
      const text = dump(`COPY a.t (x) FROM stdin;\n${first}\n${"7777\n".repeat(rows)}\\.\n`);
      expect({ bytes, findings: scan(text) }).toEqual({ bytes, findings: whole([["a", "t", rows + 1]]) });
    }
  });

  test("in memory that begins anywhere", () => {
    const text = Buffer.from(dump(`COPY a.t (x) FROM stdin;\n${"12345\n".repeat(500)}\\.\n`));
    for (const offset of [0, 1, 2, 3]) {
      const memory = Buffer.allocUnsafeSlow(text.length + offset);
      text.copy(memory, offset);
      const scanner = new DumpScanner();
      scanner.push(memory.subarray(offset));
      expect(scanner.finish()).toEqual(whole([["a", "t", 500]]));
    }
  });
});

test("something endless is given up instead of being kept", () => {
  const text = `${HEADER}${"x".repeat(6 * 1024 * 1024)}`;
  expect(reasonOf(scan(text, 1024 * 1024))).toBe("it is not SQL as pg_dump writes it");
});

test("long rows are read without being kept", () => {
  const row = "x".repeat(10 * 1024 * 1024);
  const text = dump(`COPY a.t (a) FROM stdin;\n${row}\n\\\\.${row}\n\\.\n`);
  expect(scan(text, 64 * 1024)).toEqual(whole([["a", "t", 2]]));
});
