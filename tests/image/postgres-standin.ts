/**
 * Puts together what stands in for the image `postgres`, of which no registry is asked: Debian's server and a few lines
 * that begin as that image does, with a first server that fills the empty folder and listens on its socket alone.
 */
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

const SUITE = "bookworm";
const PROGRAMS = "/usr/lib/postgresql/15/bin";
const DATA = "/var/lib/postgresql/data";
const UNPACK_MS = 900_000;

/** What that image sets, for `docker import --change`. */
export const POSTGRES_CHANGES = [
  `ENV PATH=${PROGRAMS}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
  `ENV PGDATA=${DATA}`,
  `VOLUME ${DATA}`,
  'ENTRYPOINT ["/entrypoint.sh"]',
];

const ENTRYPOINT = `#!/bin/bash
set -e
if [ "$(id -u)" = 0 ]; then
  mkdir -p "$PGDATA" /var/run/postgresql
  chown postgres: "$PGDATA" /var/run/postgresql
  chmod 700 "$PGDATA"
  exec setpriv --reuid=postgres --regid=postgres --init-groups "$0"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  initdb --username=postgres --pwfile=<(echo "\${POSTGRES_PASSWORD:?}") > /dev/null
  echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
  pg_ctl --options="-c listen_addresses=''" start
  createdb --username=postgres "\${POSTGRES_DB:?}"
  pg_ctl stop
fi
exec postgres -c "listen_addresses=*"
`;

/** Fills an empty folder. Needs root and mmdebstrap. */
export function makePostgresStandin(root: string): void {
  const args = ["--quiet", "--variant=minbase", "--include=postgresql-15", SUITE, root];
  const { status, stderr, error } = spawnSync("mmdebstrap", args, { encoding: "utf8", timeout: UNPACK_MS });
  if (status !== 0) throw new Error(`mmdebstrap: exit ${status}\n${stderr}`, { cause: error });
  writeFileSync(join(root, "entrypoint.sh"), ENTRYPOINT, { mode: 0o755 });
}
