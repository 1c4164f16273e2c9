/** What of an archive's text goes to psql: all of it but its COMMIT, in pieces of any size, and never a COMMIT too early. */
import { describe, expect, test } from "bun:test";
import { ArchiveText } from "../lib/restore/archive-text.ts";

const HEAD =
  "--\n-- PostgreSQL database dump\n--\n\n\\restrict abc\n\n-- Dumped by pg_dump\n\nBEGIN;\n\nSET statement_timeout = 0;\n";
const SETTING = "SET transaction_timeout = 0;\n";
const ROWS = `COPY a.t (x) FROM stdin;\n${"COMMIT;\nSET transaction_timeout = 0;\n".repeat(3000)}\\.\n\nSELECT 1;\n`;
const ENDS = ["\nCOMMIT;\n\n--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict abc\n\n", "\nCOMMIT;\n"];

function pass(text: string, chunkBytes: number, hasUnknownSetting = false): string | undefined {
  const archive = new ArchiveText(hasUnknownSetting);
  const memory = Buffer.alloc(chunkBytes);
  const passed: string[] = [];
  for (let at = 0; at < text.length; at += chunkBytes) {
    const length = memory.write(text.slice(at, at + chunkBytes), "latin1");
    const free = archive.push(memory.subarray(0, length));
    passed.push(free.toString("latin1"));
    memory.fill(0x27);
  }
  const last = archive.finish();
  return last === undefined ? undefined : passed.join("") + last.toString("latin1");
}

const withoutLast = (text: string, word: string) => {
  const at = text.lastIndexOf(word);
  return text.slice(0, at) + " ".repeat(word.length) + text.slice(at + word.length);
};

describe.each([1, 7, 4096, 16_384, 65_536, 1_000_000])("in chunks of %i bytes", (chunkBytes) => {
  test.each([ROWS, "SELECT 1;\n"])("all goes on but the last COMMIT", (body) => {
    for (const end of ENDS) {
      const text = HEAD + body + end;
      expect(pass(text, chunkBytes) === withoutLast(text, "COMMIT;")).toBe(true);
    }
  });

  test.each([ROWS, ""])("and but the setting, where the server does not know it", (body) => {
    const rest = body + (ENDS[0] ?? "");
    const expected = withoutLast(HEAD + " ".repeat(SETTING.length - 1) + SETTING.slice(-1) + rest, "COMMIT;");
    expect(pass(HEAD + SETTING + rest, chunkBytes, true) === expected).toBe(true);
    expect(pass(HEAD + SETTING + rest, chunkBytes) === withoutLast(HEAD + SETTING + rest, "COMMIT;")).toBe(true);
  });
});

test("no beginning of it lets its COMMIT go on", () => {
  const text = `${HEAD}SELECT 1;\n${"x".repeat(5000)}${ENDS[0]}`;
  for (let length = 0; length <= text.length; length += 1) {
    const passed = new ArchiveText(false).push(Buffer.from(text.slice(0, length)));
    expect(passed.includes("COMMIT")).toBe(false);
  }
});

test.each([
  ["without one", `${HEAD}SELECT 1;\n`],
  ["with something behind it", `${HEAD}SELECT 1;\n${ENDS[0]}SELECT 2;\n`],
  ["cut in the rows", HEAD + ROWS.slice(0, ROWS.indexOf("\\.") - 1)],
  ["empty", ""],
])("a text %s is not believed to be whole", (_, text) => {
  expect(pass(text, 4096)).toBeUndefined();
});
