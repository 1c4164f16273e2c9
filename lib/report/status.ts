/** The text of `status`: where it looked, a line per kind of finding with its names under it, and what to do next. */
import type { AnyDeployError } from "../errors.ts";
import { formatList } from "../messages/format.ts";
import type { Messages } from "../messages/messages.ts";
import type { Status } from "../migrations/status.ts";
import { displayWidth } from "../system/text.ts";

export interface StatusToRender {
  readonly status: Status;
  readonly problem: AnyDeployError | undefined;
  readonly hasHistory: boolean;
  readonly target: StatusTarget;
  readonly migrationsDirectory: string;
}

/** Of a connection, what may be shown. */
export interface StatusTarget {
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly schema: string;
}

export function renderStatus(report: StatusToRender, messages: Messages): string {
  const { status, problem } = report;
  const words = messages.status;
  const findings = [
    [words.pending, status.pending],
    [words.running, status.running],
    [words.failed, status.failed],
    [words.rolledBack, status.rolledBack],
    [words.missing, status.missing],
    [words.edited, status.edited],
    [words.late, status.late],
  ] as const;
  const isDiverged = status.pending.length > 0 && status.missing.length > 0;
  return [
    ...renderPlace(report, messages),
    words.applied(status.applied.length),
    ...findings.flatMap(([say, names]) => (names.length === 0 ? [] : [say(names.length), ...formatList(names)])),
    ...renderWorker(status, messages),
    ...(isDiverged ? [`${words.lastCommon}: ${status.lastCommon ?? "-"}`] : []),
    ...(status.fence === null ? [] : [words.fenced, ...formatList([status.fence])]),
    ...(status.state === "up-to-date" ? [words.upToDate] : []),
    ...(status.state === "pending" ? [words.toApply] : []),
    ...(problem === undefined ? [] : renderProblem(problem, messages)),
  ].join("\n");
}

function renderPlace(report: StatusToRender, { status: words }: Messages): string[] {
  const { status, hasHistory, target, migrationsDirectory } = report;
  const { host, port, database, schema } = target;
  return [
    `${words.database}: ${database} (${words.schema}: ${schema}), ${host}:${port}`,
    `${words.found(status.found)} (${migrationsDirectory})`,
    ...(hasHistory ? [] : [words.noHistory]),
  ];
}

function renderWorker({ runningBy }: Status, { status: words }: Messages): string[] {
  if (runningBy === null) return [];
  const { pid, applicationName, clientAddress, since } = runningBy;
  const facts = [`pid ${pid}`, applicationName, clientAddress, since].filter((fact) => fact);
  return [`${words.runningBy}: ${facts.join(", ")}`];
}

/** The words of the refusal that a deploy would end with. */
function renderProblem(problem: AnyDeployError, { status, errors, labels }: Messages): string[] {
  const { summary, details = [], next } = errors[problem.code](problem.fields as never);
  const continuation = " ".repeat(displayWidth(labels.next) + 2);
  return [
    `${status.blocked}: ${summary}`,
    ...details.map((line) => `  ${line}`),
    ...next.map((line, index) => `${index === 0 ? `${labels.next}  ` : continuation}${line}`),
  ];
}
