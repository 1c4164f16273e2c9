/**
 * What must hold: in each situation `deploy` ends as the real Prisma CLI does, and leaves the rows and the schema that it
 * leaves, and both agree about the status. Where they differ on purpose, the table says how and why, and the difference
 * is really there. Both engines of Prisma are compared: scripts whole, as up to 7.3, and statement by statement.
 */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { skipsPrisma } from "../support/prisma-cli.ts";
import { compareSituation } from "../support/prisma-comparison.ts";
import { ENGINES, observeStatuses } from "../support/prisma-side.ts";
import { SITUATIONS, STATUS_DIFFERENCES } from "../support/prisma-situations.ts";

/** A situation waits for its turn among the others. */
setDefaultTimeout(3_600_000);

/** Every situation with both versions of Prisma, and not only those that depend on the version. */
const LONG = process.env.LONG === "1";

/** Most of the time is the start of the CLI, on one processor; some wait for a lock. */
const LANES = 3;

const isSkipped = skipsPrisma("prisma-differential.test.ts");
if (isSkipped) test.skip(`${SITUATIONS.length + STATUS_DIFFERENCES.length} situations`, () => {});

describe.each(isSkipped ? [] : [...ENGINES])("as Prisma $name", (engine) => {
  const isDue = ({ isVersionBound }: { readonly isVersionBound?: true }) =>
    LONG || engine === ENGINES.at(-1) || isVersionBound === true;

  const due = SITUATIONS.filter(isDue);
  test.each(due.filter(({ isAlone }) => isAlone))("$name", (situation) => compareSituation(situation, engine));

  for (const situation of due.filter(({ isAlone }) => !isAlone)) {
    test.concurrent(situation.name, () => inLane(() => compareSituation(situation, engine)));
  }

  for (const difference of STATUS_DIFFERENCES.filter(isDue)) {
    test.concurrent(`status: ${difference.name}`, () =>
      inLane(async () => {
        const { theirs, ours } = await observeStatuses(engine, difference);
        expect(theirs).toMatchObject(difference.theirs(engine.name));
        expect(ours).toMatchObject(difference.ours);
      }));
  }
});

const waiting: (() => void)[] = [];
let busy = 0;

async function inLane(work: () => Promise<void>): Promise<void> {
  if (busy === LANES) await new Promise<void>((resolve) => waiting.push(resolve));
  else busy += 1;
  try {
    await work();
  } finally {
    const next = waiting.shift();
    if (next === undefined) busy -= 1;
    else next();
  }
}
