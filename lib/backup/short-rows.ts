/**
 * Counts the rows of a COPY block where they are short: a call for each would cost more than a look at every byte, and
 * four of them are looked at in one step. Pure.
 */

export interface CountedRows {
  readonly rows: number;
  /** Where a line begins: one that is not counted yet, or the `\.` behind the last row. */
  readonly end: number;
}

/** Of rows that are longer than this, each is found faster by `indexOf`. */
export const SHORT_ROW_BYTES = 64;

const NEWLINE = 0x0a;
const DOT = 0x2e;
const BACKSLASH = 0x5c;
/** Each byte of the sum of a block's flags counts its own place in a word, up to 255. */
const BLOCK_WORDS = 255;
const BLOCK_ROWS_MIN = (BLOCK_WORDS * 4) / SHORT_ROW_BYTES;
const NEWLINES = 0x0a0a0a0a;
const ONES = 0x01010101;
const LOW_BITS = 0x7f7f7f7f;
/** The order of the bytes within a word. */
const IS_LOWEST_FIRST = new Uint8Array(Int32Array.of(1).buffer)[0] === 1;

/** Counts from a line's beginning, behind another line's end, for as long as most rows are short. */
export function countShortRows(data: Buffer, start: number): CountedRows {
  // Words can only be read where they begin at a multiple of four.
  if (data.byteOffset % 4 !== 0 || !IS_LOWEST_FIRST) return { rows: 0, end: start };
  const words = new Int32Array(data.buffer, data.byteOffset, data.length >> 2);
  let word = (start - 1) >> 2;
  if (word >= words.length) return { rows: 0, end: start };
  let rows = -countNewlines(data, word * 4, start);
  let previous = 0;
  let found = BLOCK_ROWS_MIN;
  while (word < words.length && found >= BLOCK_ROWS_MIN) {
    const from = word * 4;
    const end = Math.min(words.length, word + BLOCK_WORDS);
    let sum = 0;
    let twoApart = 0;
    for (; word < end; word += 1) {
      // 1 in each byte that is a newline, 0 in the others: adding carries into the highest bit of all but those.
      const bytes = (words[word] as number) ^ NEWLINES;
      const flags = (~(((bytes & LOW_BITS) + LOW_BITS) | bytes) >>> 7) & ONES;
      sum = (sum + flags) | 0;
      // The `\.` that ends the rows has a newline on either side.
      twoApart |= ((previous >>> 8) | (flags >>> 24)) & flags;
      previous = flags;
    }
    const rowsEnd = twoApart === 0 ? -1 : findRowsEnd(data, from - 2, end * 4);
    if (rowsEnd !== -1) return { rows: rows + countNewlines(data, from, rowsEnd), end: rowsEnd };
    found = (sum & 0xff) + ((sum >>> 8) & 0xff) + ((sum >>> 16) & 0xff) + (sum >>> 24);
    rows += found;
  }
  let end = word * 4;
  while (data[end - 1] !== NEWLINE) end -= 1;
  return { rows, end };
}

function countNewlines(data: Buffer, from: number, to: number): number {
  let count = 0;
  for (let at = from; at < to; at += 1) if (data[at] === NEWLINE) count += 1;
  return count;
}

/** Index of a `\.` that is a line of its own, if its newline lies before `to`. */
function findRowsEnd(data: Buffer, from: number, to: number): number {
  for (let at = from; at + 2 < to; at += 1) {
    if (data[at - 1] !== NEWLINE || data[at] !== BACKSLASH) continue;
    if (data[at + 1] === DOT && data[at + 2] === NEWLINE) return at;
  }
  return -1;
}
