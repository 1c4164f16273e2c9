/**
 * The text of an archive as pg_restore writes it in one transaction, without its COMMIT: that one is ours to say. Pure:
 * bytes in, bytes out, and little of them is held.
 *
 * The COMMIT is found by its place, since rows may hold a line that looks like one: pg_restore writes comments behind it,
 * no more. What might be its last line is held back until it is known to be, so that what is cut short never has one.
 */
import { findUnknownSetting, HEAD_BYTES, UNKNOWN_SETTING } from "../backup/unknown-setting.ts";

/** pg_restore writes little behind its COMMIT. */
const TAIL_BYTES = 4096;
const LAST_COMMIT = /\nCOMMIT;\n(?:\s*\n|--[^\n]*\n|\\unrestrict [^\n]*\n)*$/u;
const COMMIT_BYTES = "COMMIT;".length;
const NOTHING = Buffer.alloc(0);

export class ArchiveText {
  #held: Buffer = NOTHING;
  #isHead: boolean;

  /** @param hasUnknownSetting pg_restore writes a setting that the server does not know: it is taken out as well */
  constructor(hasUnknownSetting: boolean) {
    this.#isHead = hasUnknownSetting;
  }

  /** What may go on. The chunk's memory is not used afterwards. */
  push(chunk: Uint8Array): Buffer {
    const held = Buffer.concat([this.#held, chunk]);
    this.#held = held;
    if (this.#isHead && held.length < HEAD_BYTES) return NOTHING;
    this.#endHead();
    const end = Math.max(0, held.length - TAIL_BYTES);
    this.#held = Buffer.from(held.subarray(end));
    return held.subarray(0, end);
  }

  /** Call it once pg_restore has said that all went well. Undefined where no COMMIT is at the end. */
  finish(): Buffer | undefined {
    this.#endHead();
    const match = LAST_COMMIT.exec(this.#held.toString("latin1"));
    if (match === null) return undefined;
    blank(this.#held, match.index + 1, COMMIT_BYTES);
    return this.#held;
  }

  #endHead(): void {
    const position = this.#isHead ? findUnknownSetting(this.#held.subarray(0, HEAD_BYTES)) : undefined;
    if (position !== undefined) blank(this.#held, position, UNKNOWN_SETTING.length);
    this.#isHead = false;
  }
}

function blank(bytes: Buffer, at: number, length: number): void {
  bytes.fill(" ", at, at + length);
}
