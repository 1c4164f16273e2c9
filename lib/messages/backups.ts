/** The words for backups: the list, what a check has found, what was pruned. Pure. */
import type { CheckPart } from "../backup/check.ts";
import type { Backup } from "../backup/store.ts";

export interface BackupWords {
  readonly headings: {
    readonly file: string;
    readonly database: string;
    readonly taken: string;
    readonly size: string;
    readonly format: string;
    readonly state: string;
    readonly precedes: string;
    readonly expiry: string;
  };
  readonly none: (directory: string) => string;
  readonly total: (count: number, size: string) => string;
  /** `verified`: when it was last read in full. */
  readonly states: { readonly [S in Backup["state"]]: (verified: string) => string };
  /** The first of the migrations that it precedes, and how many more there are. */
  readonly precedes: (first: string, more: number) => string;
  readonly expiry: {
    readonly due: string;
    readonly after: (days: number) => string;
    readonly kept: string;
    readonly needed: string;
  };
  readonly good: (path: string) => string;
  readonly bad: (path: string) => string;
  readonly content: (tables: number, rows: number, largeObjects: number) => string;
  readonly checked: { readonly [P in CheckPart]: string };
  readonly noManifest: string;
  readonly deleted: (count: number, kept: number) => string;
  readonly wouldDelete: (count: number, kept: number) => string;
}
