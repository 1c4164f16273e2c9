/** The journal's lines: their types, how one is written, and how a file of them is read. Pure. */

/** Whose lines: one folder may serve many databases. */
export interface JournalOwner {
  /** `system_identifier` of `pg_control_system()`, as text. */
  readonly systemIdentifier: string;
  readonly database: string;
}

/** What of a failure is kept: no words of the server, which may hold rows of tables. */
export interface JournalFailure {
  /** A code of `ErrorFields`. */
  readonly code: string;
  readonly migration?: string | undefined;
  readonly sqlState?: string | undefined;
  /** The same migrations on the same data would fail again: an error of a script, and not a kill or a lost connection. */
  readonly isRepeatable: boolean;
}

/** How a deploy ended; `stopped` is an error before anything was changed. */
export type JournalOutcome = "deployed" | "rolled-back" | "restored" | "at-boundary" | "unresolved" | "stopped";

export interface JournalMigration {
  readonly name: string;
  /** SHA-256 of the script's bytes in hexadecimal. */
  readonly checksum: string;
}

/** Whose deploys: those of one history. */
export interface JournalHistory extends JournalOwner {
  readonly schema: string;
}

/** A transaction of ours, by which the server can be asked what became of it. */
export interface JournalTransaction {
  readonly id: string;
  readonly pid: number;
  readonly life: string;
}

/** Only whoever has written it reads more of it. */
export interface JournalEvidence {
  readonly snapshot: string;
  /** By which it was brought to the disk. */
  readonly durableTransactionId?: string | undefined;
}

/** What the unfinished row of a migration can have left, when at most an index is left. */
export interface JournalConcurrent {
  /** Each index as it was before: its OID, its name, and whether it was valid. */
  readonly indexes: readonly (readonly [oid: string, name: string, isValid: boolean])[];
  /** `MadeIndex` of `migrations/outside-statements.ts`. */
  readonly made: { readonly kind: string };
}

/** One step of a deploy. Whatever a killed deploy's successor has to know is written before it matters. */
export type JournalStep =
  | {
      readonly step: "begun";
      readonly program: string;
      readonly engine: "native" | "prisma";
      readonly migrations: readonly JournalMigration[];
      /** That of `_prisma_migrations`. A database may have several histories, each in a schema of its own. */
      readonly schema: string;
    }
  /** The id is ours: whatever file of it is not finished belongs to this deploy. */
  | { readonly step: "backing-up"; readonly backup: string }
  /** Verified and in its place, with the mark beside it. */
  | { readonly step: "backed-up"; readonly backup: string; readonly isReused: boolean }
  /** From here on the database may be changed. */
  | { readonly step: "migrating" }
  /** Sessions that were opened since the program began. Not exact while a Prisma CLI is at work. */
  | { readonly step: "sessions"; readonly opened: number; readonly isExact: boolean }
  /** A script that runs outside of our transaction; its row is written next. */
  | {
      readonly step: "script";
      readonly migration: string;
      readonly rowId: string;
      readonly concurrent: JournalConcurrent | null;
    }
  /** Everything of the transaction is done but its COMMIT. */
  | { readonly step: "committing"; readonly transactionId: string }
  | { readonly step: "failed"; readonly failure: JournalFailure }
  /** Nobody else has written: `MarkedEvidence` of `restore/proof.ts`, which a later proof may begin from. */
  | { readonly step: "proven"; readonly evidence: JournalEvidence }
  | { readonly step: "restoring"; readonly rung: string }
  | { readonly step: "restore-transaction"; readonly transaction: JournalTransaction }
  /** Writers were let in again, by that transaction. */
  | { readonly step: "fence-lowered"; readonly transactionId: string }
  /** Outside of any deploy: a person has put this backup in the place of what was there. */
  | { readonly step: "restored-by-hand"; readonly backup: string; readonly rung: string }
  | {
      readonly step: "ended";
      readonly outcome: JournalOutcome;
      readonly exitCode: number;
      /** Names that are applied whole. */
      readonly applied: readonly string[];
      readonly failure: JournalFailure | null;
      /** It had been killed, and a later deploy has found out or brought about this end. */
      readonly isFoundLater: boolean;
    };

export type JournalLine = {
  readonly version: 1;
  /** ISO 8601 in UTC. */
  readonly time: string;
  /** Id of the deploy. */
  readonly deploy: string;
} & JournalOwner &
  JournalStep;

/** With its line break, without which it does not count. */
export function formatLine(line: JournalLine): string {
  return `${JSON.stringify(line)}\n`;
}

/**
 * The lines of a journal, in order. What is not one of ours is left out: the torn line of a killed writer, and what a
 * later version may write.
 */
export function parseLines(text: string): JournalLine[] {
  const whole = text.slice(0, text.lastIndexOf("\n") + 1);
  return whole
    .split("\n")
    .map(parseLine)
    .filter((line) => line !== undefined);
}

/** The lines of one database of one cluster. */
export function selectOwn(lines: readonly JournalLine[], owner: JournalOwner): JournalLine[] {
  return lines.filter(
    ({ systemIdentifier, database }) => systemIdentifier === owner.systemIdentifier && database === owner.database,
  );
}

function parseLine(text: string): JournalLine | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null) return undefined;
  const line = value as Readonly<Record<string, unknown>>;
  const texts = [line.time, line.deploy, line.systemIdentifier, line.database, line.step];
  const isOurs = line.version === 1 && texts.every((field) => typeof field === "string");
  return isOurs && !Number.isNaN(Date.parse(line.time as string)) ? (value as JournalLine) : undefined;
}
