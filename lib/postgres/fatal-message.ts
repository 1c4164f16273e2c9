/**
 * The server's last words. The driver drops a FATAL message that comes while nothing runs, and reports one that comes
 * during a statement as a mere closed connection; without it nobody could say why a session ended.
 */
import type { ServerMessage } from "../errors.ts";

/** https://www.postgresql.org/docs/current/protocol-message-formats.html, ErrorResponse */
const ERROR_RESPONSE = 0x45;
const HEADER_BYTES = 5;

/**
 * The message that ended a session, in the last piece that its server sent. What had been waiting to be sent may stand
 * before it. A piece that begins in the middle of a message tells nothing.
 */
export function parseFatalMessage(piece: Uint8Array): ServerMessage | undefined {
  const view = new DataView(piece.buffer, piece.byteOffset, piece.byteLength);
  for (let at = 0; at + HEADER_BYTES <= piece.length; ) {
    // The size counts itself, but not the type before it.
    const end = at + 1 + Math.max(view.getUint32(at + 1), 4);
    if (piece[at] === ERROR_RESPONSE) {
      const message = parseErrorResponse(piece.subarray(at + HEADER_BYTES, end));
      if (message !== undefined) return message;
    }
    at = end;
  }
  return undefined;
}

function parseErrorResponse(body: Uint8Array): ServerMessage | undefined {
  const fields = new Map(
    new TextDecoder()
      .decode(body)
      .split("\0")
      .map((field) => [field.slice(0, 1), field.slice(1)]),
  );
  // "V" is the severity that is never translated.
  const severity = fields.get("V");
  if (severity !== "FATAL" && severity !== "PANIC") return undefined;
  return {
    sqlState: fields.get("C") ?? "",
    message: fields.get("M") ?? "",
    detail: fields.get("D"),
    hint: fields.get("H"),
    position: undefined,
    where: fields.get("W"),
  };
}
