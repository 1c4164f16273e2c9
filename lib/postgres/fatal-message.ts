/**
 * The server's last words. The driver drops a FATAL message that comes while nothing runs, and reports one that comes
 * during a statement as a mere closed connection; without it nobody could say why a session ended.
 */
import type { ServerMessage } from "../errors.ts";

/** https://www.postgresql.org/docs/current/protocol-message-formats.html, ErrorResponse */
const ERROR_RESPONSE = 0x45;
const HEADER_BYTES = 5;

export function isErrorResponse(chunk: Uint8Array): boolean {
  return chunk[0] === ERROR_RESPONSE;
}

/** The message at the beginning of what the server sent, when it is one that ends the session. */
export function parseFatalMessage(chunk: Uint8Array): ServerMessage | undefined {
  if (!isErrorResponse(chunk) || chunk.length < HEADER_BYTES) return undefined;
  const sizeBytes = new DataView(chunk.buffer, chunk.byteOffset, chunk.byteLength).getUint32(1);
  const text = new TextDecoder().decode(chunk.subarray(HEADER_BYTES, 1 + sizeBytes));
  const fields = new Map(text.split("\0").map((field) => [field.slice(0, 1), field.slice(1)]));
  // "V" is the severity that is never translated.
  const severity = fields.get("V") ?? fields.get("S");
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
