/**
 * Reads a plain dump from its first to its last byte, as psql would, and tells whether it is whole and what it holds.
 *
 * Rows may hold anything, also lines that look like SQL, and SQL may hold texts that look like rows or like the end of
 * the dump. So this follows psql's quoting rules instead of looking for lines. Pure: bytes in, findings out.
 * @see src/fe_utils/psqlscan.l and src/bin/pg_dump/pg_backup_archiver.c of PostgreSQL
 */
import type { TableRows } from "./manifest.ts";
import { countShortRows, SHORT_ROW_BYTES } from "./short-rows.ts";

export interface DumpContent {
  /** In the order of the dump. */
  readonly tables: readonly TableRows[];
  readonly largeObjects: number;
  /** The first thing in it that leads psql out of its database or its transaction. pg_dump writes none by itself. */
  readonly hazard?: DumpHazard | undefined;
}

/** `command`: of psql, such as the \connect of `pg_dump --create`. `commit`: the end of a transaction. */
export interface DumpHazard {
  readonly kind: "command" | "commit";
  readonly text: string;
}

export type DumpFindings =
  | { readonly kind: "whole"; readonly content: DumpContent }
  | { readonly kind: "damaged"; readonly reason: string };

type Mode = "sql" | "rows" | "string" | "escape-string" | "identifier" | "dollar-quote" | "block-comment";

const NEWLINE = 0x0a;
const DOUBLE_QUOTE = 0x22;
const DOLLAR = 0x24;
const SINGLE_QUOTE = 0x27;
const ASTERISK = 0x2a;
const DASH = 0x2d;
const DOT = 0x2e;
const SLASH = 0x2f;
const SEMICOLON = 0x3b;
const UPPER_E = 0x45;
const BACKSLASH = 0x5c;
const LOWER_E = 0x65;

/** `\\.` and its newline. */
const ROWS_END_BYTES = 3;

/** At least the longest beginning of a statement that means something here. */
const LOOKAHEAD_BYTES = 64;
/** A COPY header with 1600 quoted columns is the longest thing that must be held as a whole. */
const CARRY_BYTES_MAX = 4 * 1024 * 1024;

const HEADER = "-- PostgreSQL database dump";
const END = "-- PostgreSQL database dump complete";
/** `\set ON_ERROR_STOP on` of our own guard, and what it hides: variables, and no other effect. */
const SET = "\\set";
const COMMITS = ["COMMIT", "ROLLBACK", "ABORT"].map((word) => Buffer.from(word));
const HAZARD_BYTES_MAX = 60;
const RESTRICT = "\\restrict";
const UNRESTRICT = "\\unrestrict";
const COPY_PREFIX = Buffer.from("COPY ");
const PLAIN_STRINGS_PREFIX = Buffer.from("SET standard_conforming_strings = on");
const ESCAPED_STRINGS_PREFIX = Buffer.from("SET standard_conforming_strings = off");
const LARGE_OBJECT_PREFIX = Buffer.from("SELECT pg_catalog.lo_create('");
const COPY_TARGET = /^COPY (?:(?<schema>"(?:[^"]|"")*"|[^\s."]+)\.)?(?<name>"(?:[^"]|"")*"|[^\s."]+) /u;

const IS_SPACE = makeByteTable(/[\t-\r ]/u);
/** Identifiers, key words and numbers. A `$` inside a word begins no dollar quote. */
const IS_WORD = makeByteTable(/[\w$\x80-\xff]/u);
const IS_TAG = makeByteTable(/[\w\x80-\xff]/u);
const IS_DIGIT = makeByteTable(/\d/u);

const NEEDS_MORE = -1;
const GOES_ON = "it goes on after its end marker";

interface CountedTable {
  readonly schema: string;
  readonly name: string;
  rows: number;
}

/**
 * Takes a dump in chunks of any size. A step reads from `at` as far as it can and returns where it stopped, or
 * NEEDS_MORE when what is there does not suffice to tell: then the rest is kept for the next chunk.
 */
export class DumpScanner {
  #mode: Mode = "sql";
  #carry: Buffer = Buffer.alloc(0);
  #damage: string | undefined;
  #atStatementStart = true;
  #hasBackslashEscapes = false;
  #dollarTag: Buffer = Buffer.alloc(0);
  #commentDepth = 0;
  #isInsideRow = false;
  #table: CountedTable | undefined;
  #isEmpty = true;
  #hasHeader = false;
  #hasEnd = false;
  #restrictKey: string | undefined;
  #isUnrestricted = false;
  #largeObjects = 0;
  #hazard: DumpHazard | undefined;
  readonly #tables = new Map<string, CountedTable>();

  /** The chunk's memory may be used again afterwards. */
  push(chunk: Uint8Array): void {
    if (chunk.length > 0) this.#isEmpty = false;
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    this.#read(this.#carry.length === 0 ? bytes : Buffer.concat([this.#carry, bytes]), false);
  }

  /** Call once, after the last chunk. */
  finish(): DumpFindings {
    this.#read(this.#carry, true);
    const reason = this.#damage ?? this.#findMissingPart();
    if (reason !== undefined) return { kind: "damaged", reason };
    const content = {
      tables: [...this.#tables.values()],
      largeObjects: this.#largeObjects,
      hazard: this.#hazard,
    };
    return { kind: "whole", content };
  }

  #read(data: Buffer, isLast: boolean): void {
    let at = 0;
    while (at < data.length && this.#damage === undefined) {
      const next = this.#step(data, at, isLast);
      if (next === NEEDS_MORE) break;
      at = next;
    }
    if (data.length - at > CARRY_BYTES_MAX) this.#damage ??= "it is not SQL as pg_dump writes it";
    // A copy, since the caller reads the next chunk into the same memory.
    this.#carry = this.#damage === undefined ? Buffer.from(data.subarray(at)) : Buffer.alloc(0);
  }

  #step(data: Buffer, at: number, isLast: boolean): number {
    switch (this.#mode) {
      case "sql":
        return this.#readSql(data, at, isLast);
      case "rows":
        return this.#readRows(data, at);
      case "string":
        return this.#readUntil(data, at, SINGLE_QUOTE);
      case "identifier":
        return this.#readUntil(data, at, DOUBLE_QUOTE);
      case "escape-string":
        return this.#readEscapeString(data, at, isLast);
      case "dollar-quote":
        return this.#readDollarQuote(data, at, isLast);
      case "block-comment":
        return this.#readBlockComment(data, at, isLast);
    }
  }

  #readSql(data: Buffer, start: number, isLast: boolean): number {
    const end = isLast ? data.length : data.length - LOOKAHEAD_BYTES;
    let at = start;
    while (at < end && this.#mode === "sql" && this.#damage === undefined) {
      const next = this.#readSqlToken(data, at, isLast);
      if (next === NEEDS_MORE) break;
      at = next;
    }
    return at === start && this.#mode === "sql" ? NEEDS_MORE : at;
  }

  #readSqlToken(data: Buffer, at: number, isLast: boolean): number {
    const byte = data[at] as number;
    if (IS_SPACE[byte] === 1) return at + 1;
    if (byte === DASH && data[at + 1] === DASH) return this.#readLineComment(data, at, isLast);
    if (byte === SLASH && data[at + 1] === ASTERISK) {
      this.#mode = "block-comment";
      this.#commentDepth = 1;
      return at + 2;
    }
    if (this.#atStatementStart) {
      if (byte === BACKSLASH) return this.#readBackslashCommand(data, at, isLast);
      if (this.#hasEnd) this.#damage = GOES_ON;
      if (startsWith(data, at, COPY_PREFIX)) return this.#readCopyHeader(data, at, isLast);
      this.#beginStatement(data, at);
    }
    if (byte === BACKSLASH) this.#hazard ??= { kind: "command", text: data.toString("latin1", at, at + 2) };
    switch (byte) {
      case SEMICOLON:
        this.#atStatementStart = true;
        return at + 1;
      case SINGLE_QUOTE:
        this.#mode = this.#hasBackslashEscapes ? "escape-string" : "string";
        return at + 1;
      case DOUBLE_QUOTE:
        this.#mode = "identifier";
        return at + 1;
      case DOLLAR:
        return this.#readDollar(data, at, isLast);
      default:
        return IS_WORD[byte] === 1 ? this.#readWord(data, at, isLast) : at + 1;
    }
  }

  #readLineComment(data: Buffer, at: number, isLast: boolean): number {
    const end = findLineEnd(data, at, isLast);
    if (end === NEEDS_MORE) return NEEDS_MORE;
    if (this.#atStatementStart && end - at <= END.length) {
      const text = data.toString("latin1", at, end);
      if (text === HEADER && this.#hasEnd) this.#damage = GOES_ON;
      else if (text === HEADER) this.#hasHeader = true;
      else if (text === END) this.#hasEnd = true;
    }
    return end;
  }

  /** psql's own commands; `\restrict` and `\unrestrict` are the first and the last line around what pg_dump writes. */
  #readBackslashCommand(data: Buffer, at: number, isLast: boolean): number {
    const end = findLineEnd(data, at, isLast);
    if (end === NEEDS_MORE) return NEEDS_MORE;
    const [command, key] = data.toString("latin1", at, end).trimEnd().split(" ");
    if (command === RESTRICT) this.#restrictKey = key;
    else if (command === UNRESTRICT) this.#isUnrestricted = this.#hasEnd && key === this.#restrictKey;
    else if (this.#hasEnd && !UNRESTRICT.startsWith(command ?? "")) this.#damage = GOES_ON;
    else if (command !== SET) this.#hazard ??= { kind: "command", text: command ?? "" };
    return end;
  }

  #beginStatement(data: Buffer, at: number): void {
    this.#atStatementStart = false;
    if (COMMITS.some((word) => startsWith(data, at, word))) this.#noteCommit(data, at);
    if (startsWith(data, at, LARGE_OBJECT_PREFIX)) this.#largeObjects += 1;
    else if (startsWith(data, at, ESCAPED_STRINGS_PREFIX)) this.#hasBackslashEscapes = true;
    else if (startsWith(data, at, PLAIN_STRINGS_PREFIX)) this.#hasBackslashEscapes = false;
  }

  /** The section of large objects has one of its own, which is told by their number. */
  #noteCommit(data: Buffer, at: number): void {
    if (this.#largeObjects > 0) return;
    this.#hazard ??= {
      kind: "commit",
      text: data.toString("latin1", at, at + HAZARD_BYTES_MAX).split(/[;\n]/u, 1)[0] ?? "",
    };
  }

  #readCopyHeader(data: Buffer, at: number, isLast: boolean): number {
    const end = findStatementEnd(data, at);
    // One byte beyond it is needed as well.
    if (end >= data.length) return isLast ? this.#beginOtherStatement(data, at, isLast) : NEEDS_MORE;
    const text = data.toString("utf8", at, end);
    if (!text.endsWith(" FROM stdin;")) return this.#beginOtherStatement(data, at, isLast);
    const { schema, name } = COPY_TARGET.exec(text)?.groups ?? {};
    if (name === undefined || data[end] !== NEWLINE) {
      this.#damage = "it holds a COPY that pg_dump would not write";
      return end;
    }
    this.#enterTable(unquote(schema ?? ""), unquote(name));
    return end + 1;
  }

  /** Of another kind than the rows that follow: its text is read by the common rules. */
  #beginOtherStatement(data: Buffer, at: number, isLast: boolean): number {
    this.#beginStatement(data, at);
    return this.#readWord(data, at, isLast);
  }

  /** A table that is loaded through its partition root comes in several blocks. */
  #enterTable(schema: string, name: string): void {
    const key = JSON.stringify([schema, name]);
    this.#table = this.#tables.get(key) ?? { schema, name, rows: 0 };
    this.#tables.set(key, this.#table);
    this.#isInsideRow = false;
    this.#mode = "rows";
  }

  /** A line break inside a value is written as `\n`, and a backslash as two: a line that is `\.` is always the end. */
  #readRows(data: Buffer, start: number): number {
    const table = this.#table as CountedTable;
    let at = start;
    for (;;) {
      const isLineStart = !this.#isInsideRow;
      if (isLineStart && data[at] === BACKSLASH && data[at + 1] === DOT && data[at + 2] === NEWLINE) {
        this.#mode = "sql";
        this.#atStatementStart = true;
        return at + 3;
      }
      const lineEnd = data.indexOf(NEWLINE, at);
      if (lineEnd === -1) break;
      this.#isInsideRow = false;
      table.rows += 1;
      const isShort = lineEnd - at < SHORT_ROW_BYTES;
      at = lineEnd + 1;
      if (!isShort) continue;
      const { rows, end } = countShortRows(data, at);
      table.rows += rows;
      at = end;
    }
    // Fewer bytes than that might become the end of the rows.
    const isSurelyRow = this.#isInsideRow || data.length - at >= ROWS_END_BYTES;
    if (isSurelyRow) {
      this.#isInsideRow = true;
      return data.length;
    }
    return at === start ? NEEDS_MORE : at;
  }

  #readUntil(data: Buffer, at: number, quote: number): number {
    const end = data.indexOf(quote, at);
    if (end === -1) return data.length;
    // A doubled quote closes and opens again: the same result.
    this.#mode = "sql";
    return end + 1;
  }

  #readEscapeString(data: Buffer, start: number, isLast: boolean): number {
    let at = start;
    while (at < data.length) {
      const byte = data[at];
      const isPair = byte === BACKSLASH || byte === SINGLE_QUOTE;
      if (isPair && at + 1 >= data.length && !isLast) return at === start ? NEEDS_MORE : at;
      if (byte === SINGLE_QUOTE && data[at + 1] !== SINGLE_QUOTE) {
        this.#mode = "sql";
        return at + 1;
      }
      at += isPair ? 2 : 1;
    }
    return data.length;
  }

  #readDollar(data: Buffer, at: number, isLast: boolean): number {
    let end = at + 1;
    // `$1` is a parameter.
    if (IS_DIGIT[data[end] ?? 0] === 1) return end;
    while (end < data.length && IS_TAG[data[end] as number] === 1) end += 1;
    if (end >= data.length && !isLast) return NEEDS_MORE;
    if (data[end] !== DOLLAR) return end;
    this.#dollarTag = Buffer.from(data.subarray(at, end + 1));
    this.#mode = "dollar-quote";
    return end + 1;
  }

  #readDollarQuote(data: Buffer, at: number, isLast: boolean): number {
    const found = data.indexOf(this.#dollarTag, at);
    if (found !== -1) {
      this.#mode = "sql";
      return found + this.#dollarTag.length;
    }
    // The closing tag may be cut by the chunk's end.
    const kept = Math.max(at, data.length - this.#dollarTag.length + 1);
    if (isLast) return data.length;
    return kept === at ? NEEDS_MORE : kept;
  }

  #readBlockComment(data: Buffer, start: number, isLast: boolean): number {
    let at = start;
    while (at + 1 < data.length) {
      const byte = data[at];
      if (byte === ASTERISK && data[at + 1] === SLASH) {
        this.#commentDepth -= 1;
        at += 2;
        if (this.#commentDepth > 0) continue;
        this.#mode = "sql";
        return at;
      }
      if (byte === SLASH && data[at + 1] === ASTERISK) {
        this.#commentDepth += 1;
        at += 1;
      }
      at += 1;
    }
    if (isLast) return data.length;
    return at === start ? NEEDS_MORE : at;
  }

  #readWord(data: Buffer, at: number, isLast: boolean): number {
    let end = at;
    while (end < data.length && IS_WORD[data[end] as number] === 1) end += 1;
    if (end === data.length && !isLast) return NEEDS_MORE;
    const isEscapeMark = end - at === 1 && (data[at] === UPPER_E || data[at] === LOWER_E);
    if (!isEscapeMark || data[end] !== SINGLE_QUOTE) return end;
    this.#mode = "escape-string";
    return end + 1;
  }

  #findMissingPart(): string | undefined {
    if (this.#isEmpty) return "it is empty";
    if (!this.#hasHeader) return "it does not begin like a dump of pg_dump";
    if (this.#mode === "rows") return `it ends inside the rows of ${describeTable(this.#table)}`;
    if (this.#mode !== "sql" || !this.#atStatementStart) return "it ends in the middle of a statement";
    if (!this.#hasEnd) return "its end marker is missing";
    if (this.#restrictKey !== undefined && !this.#isUnrestricted) return "its last line (\\unrestrict) is missing";
    return undefined;
  }
}

function describeTable(table: CountedTable | undefined): string {
  return [table?.schema, table?.name].filter((part) => part !== undefined && part !== "").join(".");
}

/** Index of the line's newline, or of the end of the last line. */
function findLineEnd(data: Buffer, at: number, isLast: boolean): number {
  const end = data.indexOf(NEWLINE, at);
  if (end !== -1) return end;
  return isLast ? data.length : NEEDS_MORE;
}

/** Index after the semicolon; only double quotes can hide one in a COPY's header. The data's length when there is none. */
function findStatementEnd(data: Buffer, start: number): number {
  let isQuoted = false;
  for (let at = start; at < data.length; at += 1) {
    if (data[at] === DOUBLE_QUOTE) isQuoted = !isQuoted;
    else if (data[at] === SEMICOLON && !isQuoted) return at + 1;
  }
  return data.length;
}

function startsWith(data: Buffer, at: number, prefix: Buffer): boolean {
  if (data.length - at < prefix.length) return false;
  for (let index = 0; index < prefix.length; index += 1) if (data[at + index] !== prefix[index]) return false;
  return true;
}

function unquote(identifier: string): string {
  return identifier.startsWith('"') ? identifier.slice(1, -1).replaceAll('""', '"') : identifier;
}

function makeByteTable(pattern: RegExp): Uint8Array {
  return Uint8Array.from({ length: 256 }, (_, byte) => (pattern.test(String.fromCharCode(byte)) ? 1 : 0));
}
