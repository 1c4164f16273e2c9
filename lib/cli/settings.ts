/** Every setting of `deploy`: the one table from which its parser, its help and the README's table are made. */
import { existsSync, readFileSync } from "node:fs";
import type { SettingProblem } from "../errors.ts";
import { DeployError } from "../errors.ts";
import type { ConnectionTarget } from "../postgres/url.ts";
import { parseConnectionUrl } from "../postgres/url.ts";
import type { RestorePolicy } from "../restore/plan.ts";
import { type Arguments, parseArguments } from "./arguments.ts";
import type { SettingTable } from "./setting-table.ts";
import { flagsOf, resolveSettings } from "./setting-table.ts";

export const COMMANDS = [
  "status",
  "plan",
  "resolve",
  "baseline",
  "backup",
  "backups",
  "history",
  "verify",
  "restore",
  "prune",
] as const;
export type CommandName = (typeof COMMANDS)[number] | "deploy";

/** Those that may be followed by a word of their own, such as a file. */
const COMMANDS_WITH_OPERAND: readonly CommandName[] = ["verify", "restore"];

export type Language = "ko" | "en";

/** What the table yields; `Settings` is what the program works with. */
interface TableSettings {
  readonly databaseUrl: string;
  readonly databaseUrlFile: string;
  readonly directUrl: string;
  readonly envFile: string;
  readonly migrationsDirectory: string;
  readonly migrateEngine: "native" | "prisma";
  readonly prismaSchema: string;
  readonly prismaTimeoutMs: number;
  readonly migrationOrder: "bytes" | "prisma";
  readonly onEdited: "warn" | "refuse";
  readonly onMissing: "warn" | "refuse";
  readonly backupDirectory: string;
  readonly backupFormat: "auto" | "plain" | "custom";
  readonly backupRetentionDays: number;
  readonly backupMinimumKeep: number;
  readonly restore: RestorePolicy;
  readonly maintenanceDatabase: string;
  readonly acceptManualRestore: boolean;
  readonly onPartial: "stop" | "restore";
  readonly databaseWaitMs: number;
  readonly deployLockWaitMs: number;
  readonly lockTimeoutMs: number;
  readonly lockRetryMs: number;
  readonly statementTimeoutMs: number;
  readonly createDatabase: boolean;
  readonly maintenance: boolean;
  readonly stateFile: string;
  readonly probePort: number;
  readonly retry: boolean;
  /** Names of migrations, for `resolve`. */
  readonly applied: string;
  readonly rolledBack: string;
  /** For `restore`. */
  readonly before: string;
  readonly into: string;
  readonly yesRestore: string;
  readonly force: boolean;
  readonly dryRun: boolean;
  readonly language: Language;
  readonly logFormat: "human" | "json";
  readonly json: boolean;
  readonly help: boolean;
  readonly version: boolean;
}

export interface Settings extends Omit<TableSettings, "databaseUrl" | "databaseUrlFile" | "directUrl" | "envFile"> {
  readonly command: CommandName;
  /** The word behind the command. */
  readonly operand: string | undefined;
  readonly appCommand: readonly string[];
  /** Where the deploy works: DIRECT_URL where there is one, else DATABASE_URL. */
  readonly target: ConnectionTarget;
  /** The variable that `target` came from. */
  readonly targetName: "DATABASE_URL" | "DIRECT_URL" | "DATABASE_URL_FILE";
  /** What a child that reads the environment itself needs: ours with what the files add to it. */
  readonly childEnvironment: Environment;
}

/** Of a command that works on files alone. */
export type OfflineSettings = Omit<Settings, "target" | "targetName" | "childEnvironment">;

export const SETTINGS: SettingTable<TableSettings> = {
  databaseUrl: {
    environment: "DATABASE_URL",
    flag: undefined,
    kind: { type: "text" },
    default: "",
    help: {
      ko: "데이터베이스 연결 문자열 (필수). 명령행은 누구나 볼 수 있으므로 플래그가 없습니다.",
      en: "Connection string of the database (required). It has no flag, since a command line is public.",
    },
  },
  databaseUrlFile: {
    environment: "DATABASE_URL_FILE",
    flag: undefined,
    kind: { type: "path" },
    default: "",
    help: {
      ko: "DATABASE_URL 값이 들어 있는 파일 (예: 마운트된 시크릿)",
      en: "File that holds DATABASE_URL, for example a mounted secret.",
    },
  },
  directUrl: {
    environment: "DIRECT_URL",
    flag: undefined,
    kind: { type: "text" },
    default: "",
    help: {
      ko: "풀러(PgBouncer 등)를 거치지 않는 연결 문자열. 있으면 배포는 이 주소를 사용합니다.",
      en: "Connection string that goes past a pooler. Where it is set, the deploy uses it.",
    },
  },
  envFile: {
    environment: undefined,
    flag: "env-file",
    kind: { type: "path" },
    default: "",
    help: {
      ko: "환경 변수를 읽을 파일. .env 파일은 저절로 읽지 않습니다.",
      en: "File to read environment variables from. A .env file is never read by itself.",
    },
  },
  migrationsDirectory: {
    environment: "MIGRATIONS_DIR",
    flag: "migrations-dir",
    kind: { type: "path" },
    default: "prisma/migrations",
    help: { ko: "마이그레이션 폴더", en: "Folder of the migrations." },
  },
  migrateEngine: {
    environment: "MIGRATE_ENGINE",
    flag: "migrate-engine",
    kind: { type: "choice", values: ["native", "prisma"] },
    default: "native",
    help: {
      ko: "native: 가능한 한 하나의 트랜잭션으로 직접 적용, prisma: `npx --no-install prisma migrate deploy` 실행",
      en: "native: apply them here, in one transaction where PostgreSQL allows it; prisma: run `npx --no-install prisma migrate deploy`.",
    },
  },
  prismaSchema: {
    environment: "PRISMA_SCHEMA",
    flag: "prisma-schema",
    kind: { type: "path" },
    default: "",
    help: {
      ko: "MIGRATE_ENGINE=prisma일 때 CLI에 넘길 --schema 값",
      en: "Value of --schema for the CLI, with MIGRATE_ENGINE=prisma.",
    },
  },
  prismaTimeoutMs: {
    environment: "PRISMA_TIMEOUT",
    flag: "prisma-timeout",
    kind: { type: "duration" },
    default: 0,
    defaultShown: "0",
    help: {
      ko: "MIGRATE_ENGINE=prisma일 때 CLI 실행 시간 제한 (0: 없음). 넘으면 문장을 취소하고 복구합니다.",
      en: "Limit for the CLI, with MIGRATE_ENGINE=prisma (0: none). Then its statement is cancelled, and what it left is undone.",
    },
  },
  migrationOrder: {
    environment: "MIGRATION_ORDER",
    flag: "migration-order",
    kind: { type: "choice", values: ["bytes", "prisma"] },
    default: "bytes",
    help: {
      ko: "적용 순서. prisma: 이름 순서가 다를 때 Prisma 6.6 이상의 순서",
      en: "Order of the pending migrations. prisma: that of Prisma 6.6 and later, where the two differ.",
    },
  },
  onEdited: {
    environment: "ON_EDITED",
    flag: "on-edited",
    kind: { type: "choice", values: ["warn", "refuse"] },
    default: "warn",
    help: {
      ko: "적용된 뒤 내용이 바뀐 마이그레이션",
      en: "What to do about migrations that were edited after they were applied.",
    },
  },
  onMissing: {
    environment: "ON_MISSING",
    flag: "on-missing",
    kind: { type: "choice", values: ["warn", "refuse"] },
    default: "warn",
    help: {
      ko: "적용되었지만 폴더에 없는 마이그레이션",
      en: "What to do about applied migrations that are not in the folder.",
    },
  },
  backupDirectory: {
    environment: "BACKUP_DIR",
    flag: "backup-dir",
    kind: { type: "path" },
    default: "",
    defaultShown: "/app/backups | ./backups",
    help: {
      ko: "백업 폴더. 기본값: /app 폴더가 있으면 /app/backups, 없으면 ./backups",
      en: "Folder of the backups. Default: /app/backups where /app exists, else ./backups.",
    },
  },
  backupFormat: {
    environment: "BACKUP_FORMAT",
    flag: "backup-format",
    kind: { type: "choice", values: ["auto", "plain", "custom"] },
    default: "auto",
    help: {
      ko: "plain: .sql, custom: .dump, auto: 자동 복원이 가능하면 plain, 아니면 custom",
      en: "plain: .sql; custom: .dump; auto: plain wherever the automatic restore can work from it, else custom.",
    },
  },
  backupRetentionDays: {
    environment: "BACKUP_RETENTION_DAYS",
    flag: "backup-retention-days",
    kind: { type: "whole-number", minimum: 0 },
    default: 30,
    help: { ko: "백업 보관 기간(일)", en: "Days after which a backup is deleted." },
  },
  backupMinimumKeep: {
    environment: "BACKUP_MIN_KEEP",
    flag: "backup-min-keep",
    kind: { type: "whole-number", minimum: 1 },
    default: 3,
    help: {
      ko: "기간이 지나도 남겨 둘 검증된 백업의 최소 개수",
      en: "Verified backups that are kept whatever their age.",
    },
  },
  restore: {
    environment: "RESTORE_MODE",
    flag: "restore",
    kind: { type: "choice", values: ["auto", "swap", "in-place", "always", "never"] },
    default: "auto",
    help: {
      ko: "실패했을 때의 자동 복원. swap: 복원본으로 교체, in-place: 제자리, auto: 가능한 것을 차례로, always: 증명 없이도 교체 (둘 다 보관), never: 없음",
      en: "Automatic restore after a failure. swap: put a restored copy in place; in-place; auto: what is possible, in this order; always: swap even without a proof, both are kept; never.",
    },
  },
  maintenanceDatabase: {
    environment: "MAINTENANCE_DATABASE",
    flag: "maintenance-database",
    kind: { type: "text" },
    default: "",
    help: {
      ko: "데이터베이스를 교체할 때 접속할 다른 데이터베이스 (기본값: postgres, 없으면 template1)",
      en: "Another database of the server, from which this one can be swapped. Default: postgres, else template1.",
    },
  },
  acceptManualRestore: {
    environment: "ACCEPT_MANUAL_RESTORE",
    flag: "accept-manual-restore",
    kind: { type: "switch" },
    default: false,
    help: {
      ko: "자동 복원이 불가능해도 반쯤 적용될 수 있는 마이그레이션을 실행합니다.",
      en: "Run migrations that could be left half-applied even where nothing could restore them automatically.",
    },
  },
  onPartial: {
    environment: "ON_PARTIAL",
    flag: "on-partial",
    kind: { type: "choice", values: ["stop", "restore"] },
    default: "stop",
    help: {
      ko: "앞의 마이그레이션만 온전히 적용되고 멈췄을 때. stop: 그대로 두고 다음 배포에서 계속, restore: 안전이 증명되면 배포 전으로 복원",
      en: "After a stop with the first migrations applied whole. stop: leave them, the next deploy goes on; restore: go back where that is proven safe.",
    },
  },
  databaseWaitMs: {
    environment: "DATABASE_WAIT",
    flag: "wait",
    kind: { type: "duration" },
    default: 30_000,
    help: { ko: "데이터베이스가 응답할 때까지 기다리는 시간", en: "How long to wait for the database to answer." },
  },
  deployLockWaitMs: {
    environment: "DEPLOY_LOCK_WAIT",
    flag: "lock-wait",
    kind: { type: "duration" },
    default: 900_000,
    help: { ko: "다른 배포가 끝나기를 기다리는 시간", en: "How long to wait for another deploy." },
  },
  lockTimeoutMs: {
    environment: "LOCK_TIMEOUT",
    flag: "lock-timeout",
    kind: { type: "duration" },
    default: 3_000,
    help: {
      ko: "테이블 잠금을 기다리는 시간 (넘으면 취소하고 다시 시도)",
      en: "How long a migration waits for a table before it is rolled back and tried again.",
    },
  },
  lockRetryMs: {
    environment: "LOCK_RETRY",
    flag: "lock-retry",
    kind: { type: "duration" },
    default: 300_000,
    help: {
      ko: "잠금 때문에 취소된 마이그레이션을 다시 시도하는 시간",
      en: "How long a migration that could not get its locks is tried again.",
    },
  },
  statementTimeoutMs: {
    environment: "STATEMENT_TIMEOUT",
    flag: "statement-timeout",
    kind: { type: "duration" },
    default: 0,
    defaultShown: "0",
    help: { ko: "문장 하나의 실행 시간 제한 (0: 없음)", en: "Limit for one statement (0: none)." },
  },
  createDatabase: {
    environment: "CREATE_DATABASE",
    flag: "create-database",
    kind: { type: "switch" },
    default: false,
    help: { ko: "데이터베이스가 없으면 만듭니다.", en: "Create the database where it does not exist." },
  },
  maintenance: {
    environment: "MAINTENANCE",
    flag: "maintenance",
    kind: { type: "switch" },
    default: false,
    help: {
      ko: "배포하는 동안 다른 클라이언트의 쓰기를 막습니다 (접속을 끊고, 다시 접속하면 읽기만 가능). 데이터베이스 소유자만 가능합니다.",
      en: "Shut out writers during the deploy: others are disconnected, and may only read until it ends. For the owner of the database.",
    },
  },
  stateFile: {
    environment: "STATE_FILE",
    flag: "state-file",
    kind: { type: "path" },
    default: "",
    defaultShown: "<tmp>/prisma-safe-deploy-*.json",
    help: {
      ko: "진행 중인 배포가 상태를 알리는 파일. 헬스체크와 같은 값이어야 합니다.",
      en: "File in which a deploy at work shows itself; the same as for the health check.",
    },
  },
  probePort: {
    environment: "PROBE_PORT",
    flag: "probe-port",
    kind: { type: "whole-number", minimum: 0 },
    default: 0,
    help: {
      ko: "배포하는 동안 /livez, /readyz 요청에 응답할 포트 (0: 없음). 앱이 시작되기 전에 비웁니다.",
      en: "Port that answers /livez and /readyz while deploying (0: none). It is free when the app starts.",
    },
  },
  retry: {
    environment: undefined,
    flag: "retry",
    kind: { type: "switch" },
    default: false,
    help: {
      ko: "같은 마이그레이션이 얼마 전에 실패했어도 기다리지 않고 다시 시도합니다.",
      en: "Try again at once what has failed a short while ago.",
    },
  },
  applied: {
    environment: undefined,
    flag: "applied",
    kind: { type: "text" },
    default: "",
    help: {
      ko: "resolve: 적용됨으로 기록할 마이그레이션",
      en: "resolve: the migration to record as applied.",
    },
  },
  rolledBack: {
    environment: undefined,
    flag: "rolled-back",
    kind: { type: "text" },
    default: "",
    help: {
      ko: "resolve: 되돌림으로 기록할 실패한 마이그레이션",
      en: "resolve: the failed migration to record as rolled back.",
    },
  },
  before: {
    environment: undefined,
    flag: "before",
    kind: { type: "text" },
    default: "",
    help: {
      ko: "restore: 이 마이그레이션 전에 만든 백업",
      en: "restore: the backup that was taken before this migration.",
    },
  },
  into: {
    environment: undefined,
    flag: "into",
    kind: { type: "text" },
    default: "",
    help: {
      ko: "restore: 이 이름의 새 데이터베이스에 복원합니다.",
      en: "restore: into a new database of this name.",
    },
  },
  yesRestore: {
    environment: undefined,
    flag: "yes-restore",
    kind: { type: "text" },
    default: "",
    help: {
      ko: "restore: 복원할 데이터베이스의 이름. 터미널에서 묻지 않고 동의합니다.",
      en: "restore: the name of the database, as consent where no terminal can ask for it.",
    },
  },
  force: {
    environment: undefined,
    flag: "force",
    kind: { type: "switch" },
    default: false,
    help: {
      ko: "resolve, baseline: 데이터베이스의 상태와 맞지 않아도 기록합니다.",
      en: "resolve, baseline: record it even where the database contradicts it.",
    },
  },
  dryRun: {
    environment: undefined,
    flag: "dry-run",
    kind: { type: "switch" },
    default: false,
    help: {
      ko: "무엇을 할지 보여 주기만 합니다 (plan 명령과 같음).",
      en: "Show what would be done (the same as the command plan).",
    },
  },
  language: {
    environment: "DEPLOY_LANG",
    flag: "lang",
    kind: { type: "choice", values: ["ko", "en"] },
    default: "ko",
    help: { ko: "메시지 언어", en: "Language of the messages." },
  },
  logFormat: {
    environment: "LOG_FORMAT",
    flag: "log-format",
    kind: { type: "choice", values: ["human", "json"] },
    default: "human",
    help: { ko: "로그 형식 (json: 한 줄에 이벤트 하나)", en: "Format of the log (json: one event a line)." },
  },
  json: {
    environment: undefined,
    flag: "json",
    kind: { type: "switch" },
    default: false,
    help: { ko: "결과를 JSON으로 표준 출력에 씁니다.", en: "Print the result as JSON on standard output." },
  },
  help: {
    environment: undefined,
    flag: "help",
    kind: { type: "switch" },
    default: false,
    help: { ko: "이 도움말", en: "This help." },
  },
  version: {
    environment: undefined,
    flag: "version",
    kind: { type: "switch" },
    default: false,
    help: { ko: "버전", en: "The version." },
  },
};

export type Environment = Readonly<Record<string, string | undefined>>;

/** What the command line asks for before anything is checked, so that help and errors come in the right language. */
export interface Request {
  readonly language: Language;
  readonly logFormat: "human" | "json";
  readonly help: boolean;
  readonly version: boolean;
  readonly command: CommandName;
  /** @throws SETTINGS_INVALID with every problem there is */
  readonly settings: () => Settings;
  /** The same where there may be no connection string. @throws SETTINGS_INVALID */
  readonly offlineSettings: () => OfflineSettings;
}

/** @param environment the process' environment */
export function readRequest(argv: readonly string[], environment: Environment): Request {
  const given = parseArguments(argv, flagsOf(SETTINGS), COMMANDS, COMMANDS_WITH_OPERAND);
  const envFile = given.flags.get("env-file");
  const file = typeof envFile === "string" ? readEnvironmentFile(envFile) : undefined;
  const merged =
    file === undefined || "problem" in file ? environment : { ...file.variables, ...selectSet(environment) };
  const { settings, problems } = resolveSettings(SETTINGS, given, merged);
  const command = (given.command as CommandName | undefined) ?? "deploy";
  const listProblems = () => [
    ...(file !== undefined && "problem" in file ? [file.problem] : []),
    ...problems,
    ...findMisplacedFlags(command, given),
  ];
  const makeOffline = (): OfflineSettings => {
    const { databaseUrl: _url, databaseUrlFile: _file, directUrl: _direct, envFile: _env, ...rest } = settings;
    return {
      ...rest,
      backupDirectory: rest.backupDirectory || (existsSync("/app") ? "/app/backups" : "./backups"),
      command: rest.dryRun && command === "deploy" ? "plan" : command,
      operand: given.operand,
      appCommand: given.rest,
    };
  };
  return {
    language: settings.language,
    logFormat: settings.logFormat,
    help: settings.help,
    version: settings.version,
    command,
    settings: () => {
      const all = listProblems();
      const connection = readConnection(settings, all);
      if (all.length > 0 || connection === undefined) throw new DeployError("SETTINGS_INVALID", { problems: all });
      const { target, targetName, databaseUrl } = connection;
      return { ...makeOffline(), target, targetName, childEnvironment: { ...merged, DATABASE_URL: databaseUrl } };
    },
    offlineSettings: () => {
      const all = listProblems();
      if (all.length > 0) throw new DeployError("SETTINGS_INVALID", { problems: all });
      return makeOffline();
    },
  };
}

/** Which commands a flag is for, where it is not for all: elsewhere it would be ignored silently, and a deploy would run. */
const FLAGS_OF_COMMANDS: Readonly<Record<string, readonly CommandName[]>> = {
  applied: ["resolve"],
  "rolled-back": ["resolve"],
  force: ["resolve", "baseline"],
  before: ["restore"],
  into: ["restore"],
  "yes-restore": ["restore"],
};

function findMisplacedFlags(command: CommandName, { flags, problems }: Arguments): SettingProblem[] {
  const misplaced = Object.entries(FLAGS_OF_COMMANDS).flatMap(([flag, commands]): SettingProblem[] =>
    flags.has(flag) && !commands.includes(command) ? [{ kind: "only-with", flag: `--${flag}`, commands }] : [],
  );
  const choices = ["applied", "rolled-back"];
  const hasFaultyChoice = problems.some((problem) => "flag" in problem && choices.includes(problem.flag.slice(2)));
  const isUndecided = command === "resolve" && choices.filter((flag) => flags.has(flag)).length !== 1;
  if (!isUndecided || hasFaultyChoice) return misplaced;
  return [...misplaced, { kind: "one-of-flags", flags: choices.map((flag) => `--${flag}`) }];
}

/** An empty variable is not set, so it hides nothing of the file. */
function selectSet(environment: Environment): Environment {
  return Object.fromEntries(Object.entries(environment).filter(([, value]) => value !== undefined && value !== ""));
}

/** The database to work on; what is wrong with it is added to the problems. */
function readConnection(
  settings: TableSettings,
  problems: SettingProblem[],
): (Pick<Settings, "target" | "targetName"> & { readonly databaseUrl: string }) | undefined {
  const sources: { name: Settings["targetName"]; text: string }[] = [
    { name: "DIRECT_URL" as const, text: settings.directUrl },
    { name: "DATABASE_URL" as const, text: settings.databaseUrl },
  ].filter(({ text }) => text !== "");
  if (settings.databaseUrlFile !== "" && settings.databaseUrl === "") {
    const name = "DATABASE_URL_FILE" as const;
    try {
      sources.push({ name, text: readFileSync(settings.databaseUrlFile, "utf8").trim() });
    } catch (cause) {
      const reason = (cause as { code?: string }).code ?? String(cause);
      problems.push({ kind: "unreadable-file", name, path: settings.databaseUrlFile, reason });
      return undefined;
    }
  }
  const [source] = sources;
  if (source === undefined) {
    problems.push({ kind: "missing", name: "DATABASE_URL" });
    return undefined;
  }
  const parsed = parseConnectionUrl(source.text);
  if ("problem" in parsed) {
    problems.push({ kind: "invalid-url", name: source.name, reason: parsed.problem });
    return undefined;
  }
  const databaseUrl = sources.find(({ name }) => name !== "DIRECT_URL")?.text ?? "";
  return { target: parsed.target, targetName: source.name, databaseUrl };
}

type EnvironmentFile = { readonly variables: Environment } | { readonly problem: SettingProblem };

function readEnvironmentFile(path: string): EnvironmentFile {
  try {
    return { variables: parseEnvironment(readFileSync(path, "utf8")) };
  } catch (cause) {
    const reason = (cause as { code?: string }).code ?? String(cause);
    return { problem: { kind: "unreadable-file", name: "--env-file", path, reason } };
  }
}

/** The `NAME=value` lines of a dotenv file: quotes taken off, `export` and comments understood, nothing expanded. */
export function parseEnvironment(text: string): Environment {
  const variables: Record<string, string> = {};
  const line =
    /^\uFEFF?[ \t]*(?:export[ \t]+)?([A-Za-z_][\w.-]*)[ \t]*=(?:[ \t]*"((?:[^"\\]|\\.)*)"|[ \t]*'([^']*)'|([^\r\n]*))/gm;
  for (const [, name = "", double, single, bare] of text.matchAll(line)) {
    const unquoted = (bare ?? "").replace(/[ \t]+#.*$/, "").trim();
    variables[name] = double?.replaceAll(/\\([nrt"\\$])/g, (_, c: string) => ESCAPES[c] ?? c) ?? single ?? unquoted;
  }
  return variables;
}

const ESCAPES: Readonly<Record<string, string>> = { n: "\n", r: "\r", t: "\t" };
