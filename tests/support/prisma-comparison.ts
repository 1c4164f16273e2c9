/** One situation by the real Prisma CLI and by `deploy`: the same, or different as its row of the table says. */
import { expect } from "bun:test";
import { type Engine, type Observation, observe } from "./prisma-side.ts";
import type { Situation } from "./prisma-situations.ts";

/**
 * Lets both tools do the steps of a situation, each in a world of its own, and compares what they leave.
 *
 * @param program another `scripts/deploy.ts` than this repository's
 * @throws where a difference is not declared, or a declared one is not there
 */
export async function compareSituation(situation: Situation, engine: Engine, program?: string): Promise<void> {
  const { steps, schema, difference } = situation;
  const prisma = await observe("prisma", engine, steps, { schema });
  const ours = await observe("deploy", engine, steps, { schema, program });
  const isMeant = difference !== undefined && (difference.only ?? engine.name) === engine.name;
  const declared = isMeant ? difference.ours : {};
  const { schema: ourSchema, ...comparable } = ours;
  const { schema: prismaSchema, ...expected } = prisma;
  expect(prisma.disagreements).toEqual([]);
  expect(comparable as unknown).toEqual({ ...expected, ...declared });
  const isOtherSchema = isMeant && (declared.tables !== undefined || difference.otherSchema === true);
  if (isOtherSchema) expect(ourSchema).not.toBe(prismaSchema);
  else expect(ourSchema).toBe(prismaSchema);
  // A difference that is not there any more must not stay in the documents.
  if (isMeant) expect(differingKeys(declared, prisma)).not.toEqual([]);
}

function differingKeys(declared: Partial<Observation>, prisma: Observation): string[] {
  return (Object.keys(declared) as (keyof Observation)[]).filter(
    (key) => JSON.stringify(declared[key]) !== JSON.stringify(prisma[key]),
  );
}
