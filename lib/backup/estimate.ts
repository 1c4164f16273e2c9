/** How large a backup will be. Pure. */
import type { BackupFormat } from "./name.ts";

/** What of a database goes into a dump: no indexes, no materialized views. */
export interface DataSize {
  /** Rows of ordinary tables. */
  readonly tableBytes: number;
  /** Values that are stored out of line, mostly compressed. */
  readonly toastBytes: number;
  readonly largeObjectBytes: number;
}

/** An earlier backup of the same database in the same format. */
export interface EarlierBackup {
  readonly sizeBytes: number;
  /** What `sumData` said when it was taken. */
  readonly dataBytes: number;
}

/** Rows as text are about as wide as with their headers and paddings in a table. */
const TABLE_RATIO = 1;
/** Compressed text grows when it is written out, and bytes are written as two digits each. */
const OUT_OF_LINE_RATIO = 2;
/** Measured between 0.03 and 0.37 of the plain size; rows that were compressed before do not shrink. */
const CUSTOM_RATIO = 0.5;
/** Between two deploys the kind of the content changes little. */
const EARLIER_MARGIN = 1.1;
/** What even an empty database needs, and some air for the manifest and the journal. */
const BASE_BYTES = 1024 * 1024;
/** Of less than that, an earlier backup is mostly its schema. */
const EARLIER_DATA_BYTES_MIN = 1024 * 1024;

export function sumData({ tableBytes, toastBytes, largeObjectBytes }: DataSize): number {
  return tableBytes + toastBytes + largeObjectBytes;
}

/** Bytes that a backup will have, from what an earlier one had, or else by what is usual. */
export function estimateBackupBytes(format: BackupFormat, size: DataSize, earlier?: EarlierBackup): number {
  if (earlier !== undefined && earlier.dataBytes >= EARLIER_DATA_BYTES_MIN) {
    const ratio = earlier.sizeBytes / earlier.dataBytes;
    return BASE_BYTES + Math.ceil(sumData(size) * ratio * EARLIER_MARGIN);
  }
  const { tableBytes, toastBytes, largeObjectBytes } = size;
  const plainBytes = tableBytes * TABLE_RATIO + (toastBytes + largeObjectBytes) * OUT_OF_LINE_RATIO;
  return BASE_BYTES + Math.ceil(plainBytes * (format === "plain" ? 1 : CUSTOM_RATIO));
}
