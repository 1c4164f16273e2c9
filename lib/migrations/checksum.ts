/** Prisma's checksum of a migration script, and its rule for comparing one. */
import { createHash } from "node:crypto";

/**
 * SHA-256 of the script's bytes, 64 lower-case hexadecimal digits.
 * @see schema-engine/connectors/schema-connector/src/checksum.rs
 */
export function makeChecksum(script: string | Uint8Array): string {
  return createHash("sha256").update(script).digest("hex");
}

/** True when the stored checksum is that of the script, as it is or with the line endings of the other platform. */
export function isChecksumOf(stored: string, script: string): boolean {
  const variants = [script, script.replaceAll("\r\n", "\n"), script.replaceAll("\n", "\r\n")];
  return variants.some((variant) => {
    const checksum = makeChecksum(variant);
    return stored === checksum || (stored !== "" && stored.length !== 64 && stored === unpadded(checksum));
  });
}

/** Early versions of Prisma wrote each byte without its leading zero. */
function unpadded(checksum: string): string {
  return checksum.replaceAll(/../g, (byte) => (byte.startsWith("0") ? byte.slice(1) : byte));
}
