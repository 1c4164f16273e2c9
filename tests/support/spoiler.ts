/** A pg_dump that does its work, then something to the result, and says that all went well. */
import { writeFileSync } from "node:fs";

/** @param after a command from standard input to standard output */
export function writeSpoiler(path: string, real: string, after: string): void {
  // A pipe hides the failure of what comes before it. An archive goes to a file, which is changed behind it.
  const script = `#!/bin/sh
case "$*" in
*--version*) exec "${real}" "$@" ;;
*--file=*)
  file=$(printf '%s\\n' "$@" | sed -n 's/^--file=//p')
  "${real}" "$@" && ${after} < "$file" > "$0.result" && cat "$0.result" > "$file"
  exit 0 ;;
esac
"${real}" "$@" | ${after}
`;
  writeFileSync(path, script, { mode: 0o755 });
}
