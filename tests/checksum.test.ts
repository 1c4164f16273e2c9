/** Prisma's checksum and its rule for comparing: https://github.com/prisma/prisma-engines, checksum.rs */
import { describe, expect, test } from "bun:test";
import { isChecksumOf, makeChecksum } from "../lib/migrations/checksum.ts";

const HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
const EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

describe("the checksum", () => {
  test.each([
    ["of a word", "hello", HELLO],
    ["of nothing", "", EMPTY],
    ["has its leading zeros", "hello1", "91e9240f415223982edc345532630710e94a7f52cd5f48f5ee1afc555078f0ab"],
  ])("%s", (_, script, expected) => {
    expect(makeChecksum(script)).toBe(expected);
  });

  test("text and its UTF-8 bytes have the same one, a byte order mark counts", () => {
    for (const text of ["-- 한글 \u{1F600}\r\n", "\uFEFFSELECT 1;"]) {
      expect(makeChecksum(text)).toBe(makeChecksum(new TextEncoder().encode(text)));
    }
    expect(makeChecksum("\uFEFFhello")).not.toBe(HELLO);
  });

  test("line ends and blanks count", () => {
    const checksums = ["a\n", "a\r\n", "a", "a \n"].map(makeChecksum);
    expect(new Set(checksums).size).toBe(4);
  });
});

describe("comparing a stored checksum with a script", () => {
  const COMPARISONS: [string, string, string, boolean][] = [
    ["the script as it was", makeChecksum("a\nb\n"), "a\nb\n", true],
    ["applied with LF, now CRLF", makeChecksum("a\nb\n"), "a\r\nb\r\n", true],
    ["applied with CRLF, now LF", makeChecksum("a\r\nb\r\n"), "a\nb\n", true],
    ["applied with LF, now both: made LF", makeChecksum("a\nb\n"), "a\r\nb\n", true],
    ["applied with both, now LF: Prisma can't tell, edited", makeChecksum("a\r\nb\n"), "a\nb\n", false],
    ["applied with CRLF, now both: every LF gets a CR, edited", makeChecksum("a\r\nb\r\n"), "a\r\nb\n", false],
    ["a blank more", makeChecksum("a\n"), "a \n", false],
    ["the line break at the end is gone", makeChecksum("a\n"), "a", false],
    ["a byte order mark more", makeChecksum("a"), "\uFEFFa", false],
    ["capital digits are not Prisma's", makeChecksum("hello").toUpperCase(), "hello", false],
    ["no checksum", "", "", false],
    ["nothing like one", "abc", "hello", false],
    ["an empty script", EMPTY, "", true],
  ];

  test.each(COMPARISONS)("%s", (_, stored, script, expected) => {
    expect(isChecksumOf(stored, script)).toBe(expected);
  });
});

describe("checksums of early versions, which lack the zero before a small byte", () => {
  const UNPADDED = "91e924f415223982edc34553263710e94a7f52cd5f48f5ee1afc555078f0ab";
  const WITH_ZERO_BYTE = "d396238d5aadccc61d8019f70392594c7dacf42f16cd7ac64c2991e199dda";

  test.each([
    ["of the script", UNPADDED, "hello1", true],
    ["of another script", UNPADDED, "hello2", false],
    ["with a byte that is nothing but zero", WITH_ZERO_BYTE, "script 14", true],
    ["of the script with other line ends", unpaddedOf("a\nb\n1"), "a\r\nb\r\n1", true],
    ["cut short", UNPADDED.slice(1), "hello1", false],
  ])("%s", (_, stored, script, expected) => {
    expect(stored.length).toBeLessThan(64);
    expect(isChecksumOf(stored, script)).toBe(expected);
  });
});

function unpaddedOf(script: string): string {
  return [...Buffer.from(makeChecksum(script), "hex")].map((byte) => byte.toString(16)).join("");
}
