/** How far a restore is: first the backup is read once more, and then the database fills. */
import type { Manifest } from "../backup/manifest.ts";
import { makeDataProgress, type Report } from "../events.ts";
import { expectGrowth } from "./growth.ts";

export type RestoreProgress = (work: "verify" | "restore", bytes: number) => void;

/** What an archive is unpacked to is not known before; nor is what is undefined. */
export function makeRestoreProgress(
  tell: Report,
  manifest: Pick<Manifest, "format" | "sizeBytes"> | undefined,
  databaseBytes: number | undefined,
): RestoreProgress {
  const textBytes = manifest?.format === "plain" ? manifest.sizeBytes : undefined;
  const growthBytes = databaseBytes === undefined ? undefined : expectGrowth(databaseBytes);
  const ofVerification = makeDataProgress(tell, "verify", textBytes);
  let ofRestore: ((bytes: number) => void) | undefined;
  return (work, bytes) => {
    if (work === "verify") return ofVerification(bytes);
    ofRestore ??= makeDataProgress(tell, "restore", growthBytes);
    ofRestore(bytes);
  };
}
