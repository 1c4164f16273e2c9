/** Every setting of `health-check`, as a table of the same shape as that of `deploy`. */
import { makeStateFilePath } from "../app/heartbeat.ts";
import type { SettingProblem } from "../errors.ts";
import { DeployError } from "../errors.ts";
import type { DatabaseRequest, HealthRequest } from "../health.ts";
import type { Arguments, FlagSpecification } from "./arguments.ts";
import { flagsOf, resolveSettings, type SettingTable } from "./setting-table.ts";
import type { Environment, Language } from "./settings.ts";

interface HealthTableSettings {
  readonly databaseUrl: string;
  readonly databaseUrlFile: string;
  readonly envFile: string;
  readonly isLive: boolean;
  readonly url: string;
  readonly timeoutMs: number;
  readonly migrationsDirectory: string;
  readonly skipMigrations: boolean;
  readonly stateFile: string;
  readonly language: Language;
  readonly json: boolean;
  readonly quiet: boolean;
  readonly help: boolean;
  readonly version: boolean;
}

/** How long an orchestrator waits by itself is 3 seconds and more (Docker), or 1 (Kubernetes, which can be told). */
const TIMEOUT_MS = 2_500;

export const HEALTH_SETTINGS: SettingTable<HealthTableSettings> = {
  isLive: {
    environment: undefined,
    flag: "live",
    kind: { type: "switch" },
    default: false,
    help: {
      ko: "살아 있는지만 확인합니다. 데이터베이스에 연결하지 않고, 진행 중인 배포는 정상으로 봅니다.",
      en: "Only whether it is alive: never connects to the database, and a deploy at work is healthy.",
    },
  },
  url: {
    environment: "HEALTH_URL",
    flag: "url",
    kind: { type: "text" },
    default: "",
    help: {
      ko: "2xx 응답이어야 하는 앱의 주소. localhost: 127.0.0.1과 ::1 모두 시도합니다.",
      en: "Address of the app that has to answer 2xx. localhost is tried as 127.0.0.1 and as ::1.",
    },
  },
  timeoutMs: {
    environment: "HEALTH_TIMEOUT",
    flag: "timeout",
    kind: { type: "duration" },
    default: TIMEOUT_MS,
    help: {
      ko: "전체 시간 제한. 오케스트레이터의 제한보다 짧아야 합니다 (Kubernetes 기본값 1초: 800ms 권장).",
      en: "Limit for everything. Keep it below the orchestrator's (Kubernetes' default is 1 second: 800ms is advised).",
    },
  },
  databaseUrl: {
    environment: "DATABASE_URL",
    flag: undefined,
    kind: { type: "text" },
    default: "",
    help: {
      ko: "앱이 사용하는 연결 문자열 (--live가 아니면 필수)",
      en: "Connection string of the app (required unless --live).",
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
  skipMigrations: {
    environment: "HEALTH_SKIP_MIGRATIONS",
    flag: "skip-migrations",
    kind: { type: "switch" },
    default: false,
    help: {
      ko: "데이터베이스의 응답만 확인합니다. 이미지에 폴더가 없거나 이력을 읽을 권한이 없을 때 씁니다.",
      en: "Only ask the database for an answer, where the image lacks the folder or the user may not read the history.",
    },
  },
  stateFile: {
    environment: "STATE_FILE",
    flag: "state-file",
    kind: { type: "path" },
    default: "",
    defaultShown: "<tmp>/prisma-safe-deploy-*.json",
    help: {
      ko: "진행 중인 배포가 상태를 알리는 파일. 배포와 같은 값이어야 합니다.",
      en: "File in which a deploy at work shows itself; the same as for the deploy.",
    },
  },
  language: {
    environment: "DEPLOY_LANG",
    flag: "lang",
    kind: { type: "choice", values: ["ko", "en"] },
    default: "ko",
    help: { ko: "메시지 언어", en: "Language of the messages." },
  },
  json: {
    environment: undefined,
    flag: "json",
    kind: { type: "switch" },
    default: false,
    help: {
      ko: "결과를 JSON으로 출력합니다 (NestJS Terminus 형식).",
      en: "Print the result as JSON (NestJS Terminus).",
    },
  },
  quiet: {
    environment: undefined,
    flag: "quiet",
    kind: { type: "switch" },
    default: false,
    help: { ko: "정상이면 아무것도 출력하지 않습니다.", en: "Print nothing while it is healthy." },
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

/** What the command line asks for before anything is checked, so that also errors come in the right form. */
export interface HealthCommand extends Pick<HealthTableSettings, "language" | "json" | "quiet" | "help" | "version"> {
  readonly timeoutMs: number;
  /** @throws SETTINGS_INVALID with every problem there is */
  readonly readRequest: () => Promise<HealthRequest>;
}

export async function readHealthCommand(argv: readonly string[], environment: Environment): Promise<HealthCommand> {
  const given = await readArguments(argv, flagsOf(HEALTH_SETTINGS));
  const problems: SettingProblem[] = [];
  const merged = await readMergedEnvironment(given, environment, problems);
  const resolved = resolveSettings(HEALTH_SETTINGS, given, merged);
  const { settings } = resolved;
  return {
    ...settings,
    timeoutMs: settings.timeoutMs || TIMEOUT_MS,
    readRequest: () => makeRequest(settings, [...problems, ...resolved.problems]),
  };
}

/** Flags as they are usually written are read without `node:util`, which alone costs a fifth of a live check. */
async function readArguments(argv: readonly string[], flags: readonly FlagSpecification[]): Promise<Arguments> {
  const values = new Map<string, string | true>();
  for (let index = 0; index < argv.length; index += 1) {
    const [name, inline] = splitOnce(argv[index] ?? "");
    const known = flags.find(({ flag }) => `--${flag}` === name);
    const value = known?.takesValue === true ? (inline ?? argv[++index]) : (inline ?? true);
    const isPlain = known?.takesValue === true ? typeof value === "string" && !value.startsWith("-") : value === true;
    if (known === undefined || value === undefined || !isPlain) {
      const { parseArguments } = await import("./arguments.ts");
      return parseArguments(argv, flags, []);
    }
    values.set(known.flag, value);
  }
  return { command: undefined, operand: undefined, flags: values, rest: [], problems: [] };
}

function splitOnce(text: string): readonly [string, string | undefined] {
  const at = text.indexOf("=");
  return at === -1 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
}

async function readMergedEnvironment(
  given: Arguments,
  environment: Environment,
  problems: SettingProblem[],
): Promise<Environment> {
  const path = given.flags.get("env-file");
  if (typeof path !== "string") return environment;
  const text = await readText(path, "--env-file", problems);
  if (text === undefined) return environment;
  const { parseEnvironment } = await import("./settings.ts");
  const set = Object.entries(environment).filter(([, value]) => value !== undefined && value !== "");
  return { ...parseEnvironment(text), ...Object.fromEntries(set) };
}

async function makeRequest(settings: HealthTableSettings, problems: SettingProblem[]): Promise<HealthRequest> {
  const url = parseUrl(settings.url, problems);
  if (settings.timeoutMs === 0) {
    problems.push({ kind: "invalid", name: "--timeout", value: "0", expected: { kind: "duration" } });
  }
  const database = settings.isLive ? undefined : await readDatabaseRequest(settings, problems);
  if (problems.length > 0) throw new DeployError("SETTINGS_INVALID", { problems });
  return {
    isLive: settings.isLive,
    stateFilePath: settings.stateFile || makeStateFilePath(settings.migrationsDirectory),
    url,
    database,
    deadlineMs: settings.timeoutMs,
  };
}

/** A value that is not a web address is not shown: it may be a connection string. */
function parseUrl(text: string, problems: SettingProblem[]): URL | undefined {
  if (text === "") return undefined;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol === "http:" || url?.protocol === "https:") return url;
  const expected = { kind: "one-of", values: ["http://HOST:PORT/PATH", "https://..."] } as const;
  problems.push({ kind: "invalid", name: "--url", value: text.includes("@") ? "***" : text, expected });
  return undefined;
}

async function readDatabaseRequest(
  settings: HealthTableSettings,
  problems: SettingProblem[],
): Promise<DatabaseRequest | undefined> {
  const isFromFile = settings.databaseUrl === "" && settings.databaseUrlFile !== "";
  const name = isFromFile ? "DATABASE_URL_FILE" : "DATABASE_URL";
  const text = isFromFile ? await readText(settings.databaseUrlFile, name, problems) : settings.databaseUrl;
  if (text === undefined) return undefined;
  if (text === "") {
    problems.push({ kind: "missing", name });
    return undefined;
  }
  const { parseConnectionUrl } = await import("../postgres/url.ts");
  const parsed = parseConnectionUrl(text.trim());
  if ("problem" in parsed) {
    problems.push({ kind: "invalid-url", name, reason: parsed.problem });
    return undefined;
  }
  return {
    target: parsed.target,
    migrationsDirectory: settings.skipMigrations ? undefined : settings.migrationsDirectory,
  };
}

async function readText(path: string, name: string, problems: SettingProblem[]): Promise<string | undefined> {
  const { readFileSync } = await import("node:fs");
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    const reason = (cause as { code?: string }).code ?? String(cause);
    problems.push({ kind: "unreadable-file", name, path, reason });
    return undefined;
  }
}
