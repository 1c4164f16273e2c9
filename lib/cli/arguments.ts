/** The command line's grammar: `[command [operand]] [flags] [-- app command...]`, read by `parseArgs` of `node:util`. */
import type { SettingProblem } from "../errors.ts";
import { redactUrl } from "../postgres/url.ts";

export interface FlagSpecification {
  /** Without the leading dashes. */
  readonly flag: string;
  readonly takesValue: boolean;
}

export interface Arguments {
  readonly command: string | undefined;
  /** What the command is about, for those that take such a word. */
  readonly operand: string | undefined;
  /** The last value of each flag that was given; `true` for one that takes none. */
  readonly flags: ReadonlyMap<string, string | true>;
  /** What stands behind `--`. */
  readonly rest: readonly string[];
  readonly problems: readonly SettingProblem[];
}

/** Reads argv without the runtime and the script. Everything that is wrong is collected, nothing is thrown. */
export function parseArguments(
  argv: readonly string[],
  flags: readonly FlagSpecification[],
  commands: readonly string[],
  commandsWithOperand: readonly string[] = [],
): Arguments {
  const end = argv.indexOf("--");
  const own = end === -1 ? argv : argv.slice(0, end);
  const rest = end === -1 ? [] : argv.slice(end + 1);
  if (own.length === 0) return { command: undefined, operand: undefined, flags: new Map(), rest, problems: [] };

  // Most starts have nothing but the app's command, and it takes a while to load.
  const { parseArgs } = process.getBuiltinModule("node:util");
  const options = Object.fromEntries(
    flags.map(({ flag, takesValue }) => [flag, { type: takesValue ? ("string" as const) : ("boolean" as const) }]),
  );
  const { tokens } = parseArgs({
    args: [...own],
    options: { ...options, help: { type: "boolean", short: "h" } },
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const values = new Map<string, string | true>();
  const problems: SettingProblem[] = [];
  const positionals: string[] = [];
  let isAfterUnknownFlag = false;
  for (const token of tokens) {
    // What follows an unknown flag is most likely its value: not a command, and maybe a secret.
    if (token.kind === "positional" && !isAfterUnknownFlag) positionals.push(token.value);
    isAfterUnknownFlag = false;
    if (token.kind !== "option") continue;
    const known = flags.find(({ flag }) => flag === token.name);
    if (known === undefined) {
      const nearest = findNearest(
        token.name,
        flags.map(({ flag }) => flag),
      );
      problems.push({ kind: "unknown-flag", flag: token.rawName, nearest: nearest && `--${nearest}` });
      isAfterUnknownFlag = token.value === undefined;
    } else if (known.takesValue && (token.value === undefined || isSwallowedFlag(token))) {
      problems.push({ kind: "missing-value", flag: token.rawName });
    } else if (!known.takesValue && token.value !== undefined) {
      problems.push({ kind: "unexpected-value", flag: token.rawName });
    } else {
      values.set(token.name, token.value ?? true);
    }
  }
  const [command, ...words] = positionals;
  const takesOperand = command !== undefined && commandsWithOperand.includes(command);
  const [operand, surplus] = takesOperand ? [words[0], words.slice(1)] : [undefined, words];
  if (command !== undefined && !commands.includes(command)) {
    problems.push({ kind: "unknown-command", command: redact(command), nearest: findNearest(command, commands) });
  }
  problems.push(...surplus.map((word) => ({ kind: "surplus" as const, argument: redact(word) })));
  return { command, operand, flags: values, rest, problems };
}

/** `--backup-dir --dry-run` must not become a folder and a deploy: `--backup-dir=--dry-run` is what means it. */
function isSwallowedFlag(token: { readonly value: string; readonly inlineValue: boolean }): boolean {
  return !token.inlineValue && /^--?[a-z]/i.test(token.value);
}

/** A connection string on the command line is a mistake, and still a secret. */
function redact(word: string): string {
  return word.includes("://") ? redactUrl(word) : word;
}

/** The candidate with the fewest edits, if it is near enough to be what was meant. */
export function findNearest(word: string, candidates: readonly string[]): string | undefined {
  const distances = candidates.map((candidate) => ({ candidate, distance: editDistance(word, candidate) }));
  const [nearest] = distances.toSorted((a, b) => a.distance - b.distance);
  return nearest !== undefined && nearest.distance <= Math.max(2, Math.floor(word.length / 3))
    ? nearest.candidate
    : undefined;
}

/** Levenshtein's distance. */
function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (const [row, letter] of [...a].entries()) {
    const current = [row + 1];
    for (const [column, other] of [...b].entries()) {
      const substituted = (previous[column] ?? 0) + (letter === other ? 0 : 1);
      current.push(Math.min(substituted, (previous[column + 1] ?? 0) + 1, (current[column] ?? 0) + 1));
    }
    previous = current;
  }
  return previous[b.length] ?? 0;
}
