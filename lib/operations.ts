/**
 * What a deploy does to the world, one verb each: it holds the sessions and what earlier verbs found out, and hands
 * values down. Order and failure policy are in `deploy.ts`; modules that only a pending migration needs load then.
 */
import type { Settings } from "./cli/settings.ts";
import type { MigrateFailure, MigrateResult, Operations, Preparation, Remains, TakenBackup } from "./deploy.ts";
import { DeployError, hasCode } from "./errors.ts";
import type { Report, Warning } from "./events.ts";
import { readMigrationsFolder } from "./migrations/folder.ts";
import { DEFAULT_SCHEMA, type History, type MigrationRow, readHistory } from "./migrations/history.ts";
import { makePlan, type Plan } from "./migrations/plan.ts";
import { retryWhileUnavailable } from "./postgres/availability.ts";
import { type Database, makeDatabase } from "./postgres/database.ts";
import type { Session } from "./postgres/session.ts";
