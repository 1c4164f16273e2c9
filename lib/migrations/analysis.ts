/** Parses scripts and keeps their facts; the trees, which are large, are let go one by one. */
import type { MigrationScript } from "./folder.ts";
import { parseScript } from "./grammar.ts";
import type { AnalysedScript } from "./segments.ts";
import { makeScriptFacts } from "./statements.ts";

export async function analyseScripts(scripts: readonly MigrationScript[]): Promise<AnalysedScript[]> {
  const analysed: AnalysedScript[] = [];
  for (const script of scripts) {
    analysed.push({ ...script, facts: makeScriptFacts(await parseScript(script.text)) });
  }
  return analysed;
}
