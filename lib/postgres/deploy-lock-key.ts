/** The key of the deploy lock, in a module of its own since the first query of every start needs nothing else of it. */

/**
 * Prisma's own advisory lock, so that a deploy and a stray `prisma migrate deploy` exclude each other.
 * @see https://github.com/prisma/prisma-engines (schema-engine, flavour/postgres.rs, acquire_lock)
 */
export const DEPLOY_LOCK_KEY = 72707369;

/** First of the two keys by which those who wait beside the database take turns. Ours alone. */
export const DEPLOY_TURN_KEY = DEPLOY_LOCK_KEY + 1;
