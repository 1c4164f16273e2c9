/** What a language has to say about health. A line of it is short: orchestrators keep little, and people read a glance. */
import type { DeployStep } from "../events.ts";

export interface HealthMessages {
  readonly healthy: string;
  readonly unhealthy: string;
  readonly steps: { readonly [S in DeployStep]: string };
  readonly deploying: (step: string, duration: string) => string;
  readonly stale: (duration: string) => string;
  readonly noDeploy: string;
  readonly databaseAnswers: (duration: string) => string;
  /** The app may read and not write. */
  readonly fenced: string;
  readonly applied: (count: number) => string;
  readonly pending: (count: number) => string;
  readonly failed: (count: number) => string;
  readonly running: (count: number) => string;
  /** Behind what is pending, where a deploy is at work elsewhere. */
  readonly lockHeld: string;
  /** The app's user may not read the history. */
  readonly mayNotRead: (user: string) => string;
  readonly timeout: (duration: string) => string;
  readonly closed: string;
  readonly notHttp: string;
  readonly url: string;
  readonly bug: string;
  readonly help: {
    readonly usage: string;
    readonly about: string;
    readonly settings: string;
    readonly default: string;
    readonly exitCodes: string;
  };
}
