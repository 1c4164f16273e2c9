/** Reads a backup again before it is believed, and keeps in its manifest what was found: a damaged one is none from then on. */
import { basename, dirname } from "node:path";
import { hasCode } from "../errors.ts";
import type { Manifest } from "./manifest.ts";
import { type Finding, readBackup, recordVerification } from "./store.ts";
import { findDifference, judgeReading, readWhole, type Verification, type VerifyOptions } from "./verify.ts";

/** A file, with what our manifest beside it says. Undefined: what anybody may have made, of which nothing is kept. */
export interface KnownDump {
  readonly path: string;
  readonly manifest: Manifest | undefined;
}

export interface RereadOptions extends Omit<VerifyOptions, "expected"> {
  /** Undefined: that it is good is not worth a write, only what is wrong with it. */
  readonly now?: (() => Date) | undefined;
}

/**
 * The damage is one of the file only where that is not the one any more that was taken: an older pg_restore that can't
 * read it, or one that was killed, says nothing against it.
 *
 * @throws what `verifyBackup` throws
 */
export async function rereadBackup({ path, manifest }: KnownDump, options: RereadOptions): Promise<Verification> {
  const reading = await readWhole(path, options);
  try {
    const verification = judgeReading(path, reading, manifest);
    if (manifest !== undefined && options.now !== undefined) await record(path, manifest, { goodAt: options.now() });
    return verification;
  } catch (cause) {
    const isOther = manifest !== undefined && findDifference(reading, manifest) !== undefined;
    if (isOther && hasCode(cause, "BACKUP_NOT_VERIFIED")) await record(path, manifest, { damage: cause.fields.reason });
    throw cause;
  }
}

/** A folder that can only be read is no reason to doubt the backup. */
async function record(path: string, { id, sha256 }: Manifest, found: Finding): Promise<void> {
  const backup = await readBackup(dirname(path), id);
  if (backup === undefined || basename(backup.path) !== basename(path) || backup.manifest.sha256 !== sha256) return;
  await recordVerification(backup, found).catch(() => {});
}
