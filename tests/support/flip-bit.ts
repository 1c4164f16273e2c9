/** Damage that changes no file's size, as a disk does it. */
import { readFileSync, writeFileSync } from "node:fs";

/** @param part of the file, where in it */
export function flipBit(path: string, part = 0.7): void {
  const bytes = readFileSync(path);
  const at = Math.floor(bytes.length * part);
  bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
  writeFileSync(path, bytes);
}
