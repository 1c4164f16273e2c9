/** The log for machines: one JSON object a line, each event as it is with its time. */

/** @param now the time of the event */
export function renderJson(kind: string, fields: object, now: Date): string {
  return JSON.stringify({ time: now.toISOString(), kind, ...fields }, replaceErrors);
}

/** Errors become their code and fields; their stacks and causes may hold what a log should not. */
function replaceErrors(_key: string, value: unknown): unknown {
  if (!(value instanceof Error)) return value;
  const { code, fields } = value as { code?: unknown; fields?: unknown };
  return { code, fields };
}
