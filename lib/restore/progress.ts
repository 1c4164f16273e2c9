/** How far a restore is: first the backup is read once more, and then the database fills. */
import { makeDataProgress, type Report } from "../events.ts";
import { expectGrowth } from "./growth.ts";

export type RestoreProgress = (work: "verify" | "restore", bytes: number) => void;

/** @param sizes undefined where nothing is known */
export function makeRestoreProgress(
  tell: Report,
  sizes: { readonly textBytes: number | undefined; readonly databaseBytes: number | undefined },
): RestoreProgress {
  const { textBytes, databaseBytes } = sizes;
  const growthBytes = databaseBytes === undefined ? undefined : expectGrowth(databaseBytes);
  const ofVerification = makeDataProgress(tell, "verify", textBytes);
  let ofRestore: ((bytes: number) => void) | undefined;
  return (work, bytes) => {
    if (work === "verify") return ofVerification(bytes);
    ofRestore ??= makeDataProgress(tell, "restore", growthBytes);
    ofRestore(bytes);
  };
}
