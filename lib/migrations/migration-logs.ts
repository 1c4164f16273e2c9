/** What a failed row's `logs` hold: in the form of Prisma's own, for people who look into the table. Pure. */
import type { AnyDeployError } from "../errors.ts";

/** @see libs/user-facing-errors/src/schema_engine.rs, ApplyMigrationError */
export function failureLogs(migration: string, error: AnyDeployError): string {
  const { code, lines } = describe(error);
  return [
    "A migration failed to apply. New migrations cannot be applied before the error is recovered from.",
    `Migration name: ${migration}`,
    `Database error code: ${code}`,
    `Database error:\n${lines.join("\n")}`,
  ].join("\n\n");
}

function describe(error: AnyDeployError): { readonly code: string; readonly lines: readonly string[] } {
  const { fields } = error;
  if ("server" in fields && fields.server !== undefined) {
    const { sqlState, message, detail, hint } = fields.server;
    const lines = [`ERROR: ${message}`];
    if (detail !== undefined) lines.push(`DETAIL: ${detail}`);
    if (hint !== undefined) lines.push(`HINT: ${hint}`);
    return { code: sqlState, lines };
  }
  const reason = "reason" in fields ? `: ${fields.reason}` : "";
  return { code: "none", lines: [`${error.code}${reason}`] };
}
