/** Text in a terminal's columns, where Hangul and emoji take two. */

/** Made when it is first needed: it draws in the tables of all languages. */
let graphemes: Intl.Segmenter | undefined;

/** Controls, marks on their own and invisible letters take no column. */
const INVISIBLE = /^[\p{Cc}\p{Cf}\p{M}]/u;

/** Drawn as a picture: by itself, or because U+FE0F asks for it. */
const EMOJI = /^\p{Emoji_Presentation}|^\p{Emoji}\uFE0F/u;

/** The wide and fullwidth ranges of https://www.unicode.org/reports/tr11/ */
const WIDE =
  /^[\u{1100}-\u{115F}\u{2E80}-\u{303E}\u{3041}-\u{A4CF}\u{A960}-\u{A97F}\u{AC00}-\u{D7A3}\u{F900}-\u{FAFF}\u{FE30}-\u{FE6F}\u{FF01}-\u{FF60}\u{FFE0}-\u{FFE6}\u{20000}-\u{3FFFD}]/u;

/**
 * What a terminal would obey instead of showing it, and what nobody would see although it is there: controls but tabs,
 * the byte order mark, and marks that turn the direction of the text.
 */
const UNSEEN = /(?!\t)[\p{Cc}\uFEFF\u200E\u200F\u202A-\u202E\u2066-\u2069]/gu;

/**
 * False where there is neither such a letter nor a line break. To look takes no time; a start that has nothing to do can
 * spare the engine of regular expressions altogether.
 */
export function mayHaveControls(text: string): boolean {
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code < 0x20 || (code >= 0x7f && code < 0xa0) || (code >= 0x2000 && code < 0x2070) || code === 0xfeff)
      return true;
  }
  return false;
}

/** The text with such letters as `<U+001B>`. Line breaks are among them. */
export function showControls(text: string): string {
  if (!mayHaveControls(text)) return text;
  return text.replaceAll(UNSEEN, (letter) => {
    const code = letter.codePointAt(0) ?? 0;
    return `<U+${code.toString(16).toUpperCase().padStart(4, "0")}>`;
  });
}

/** Columns that the text takes in a terminal. A decomposed syllable counts as one letter. */
export function displayWidth(text: string): number {
  let columns = 0;
  graphemes ??= new Intl.Segmenter("und", { granularity: "grapheme" });
  for (const { segment } of graphemes.segment(text)) columns += graphemeWidth(segment);
  return columns;
}

function graphemeWidth(grapheme: string): number {
  if (INVISIBLE.test(grapheme)) return 0;
  return EMOJI.test(grapheme) || WIDE.test(grapheme) ? 2 : 1;
}

/** The text with spaces behind it up to that many columns; a longer text stays as it is. */
export function padDisplay(text: string, columns: number): string {
  return text + " ".repeat(Math.max(0, columns - displayWidth(text)));
}

/** The pieces with a space between them in lines of at most that many columns; a longer piece has its own line. */
export function wrapDisplay(pieces: readonly string[], columns: number): string[] {
  const lines: string[] = [];
  for (const piece of pieces) {
    const last = lines.at(-1);
    if (last !== undefined && displayWidth(`${last} ${piece}`) <= columns) lines[lines.length - 1] = `${last} ${piece}`;
    else lines.push(piece);
  }
  return lines;
}
