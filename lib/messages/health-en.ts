/** English words of the health check. */
import type { HealthMessages } from "./health-messages.ts";

export const healthEn: HealthMessages = {
  healthy: "healthy",
  unhealthy: "unhealthy",
  steps: {
    connect: "connecting",
    lock: "waiting for the deploy lock",
    prepare: "preflight",
    backup: "backup",
    migrate: "migration",
    restore: "restore",
    prune: "pruning backups",
    finish: "finishing",
  },
  deploying: (step, duration) => `deploy at work: ${step} (${duration})`,
  stale: (duration) => `deploy silent for ${duration}`,
  noDeploy: "no deploy at work (no --url given)",
  databaseAnswers: (duration) => `database answers in ${duration}`,
  fenced: "read-only: a deploy with --maintenance is at work, or was killed",
  applied: (count) => `${count} ${count === 1 ? "migration" : "migrations"} applied`,
  pending: (count) => `${count} pending`,
  failed: (count) => `${count} failed`,
  running: (count) => `${count} running`,
  lockHeld: "(another deploy is at work)",
  mayNotRead: (user) => `may not read _prisma_migrations: GRANT SELECT ON _prisma_migrations TO ${user}`,
  timeout: (duration) => `no answer within ${duration}`,
  closed: "connection closed without an answer",
  notHttp: "not an HTTP answer",
  url: "URL",
  bug: "internal error",
  help: {
    usage: "Usage: health-check [flags]",
    about:
      "Default: is it ready for traffic (database, migrations, --url). --live: is it alive (the database is left alone).",
    settings: "Settings:",
    default: "default",
    exitCodes: "Exit codes: 0 healthy, 1 unhealthy (also for wrong settings)",
  },
};
