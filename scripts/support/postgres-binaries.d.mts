export const embeddedPrefix: string;
export function findServerDirectory(environment?: Record<string, string | undefined>): string | undefined;
export function findClientTool(
  name: "psql" | "pg_dump" | "pg_restore",
  environment?: Record<string, string | undefined>,
): { readonly path: string; readonly major: number } | undefined;
export function isMusl(): boolean;
