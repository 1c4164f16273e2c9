/**
 * Korean, the default.
 *
 * Summaries are noun phrases, state and advice are 합니다체, and no particle follows a value that is filled in.
 */
import type { SettingExpectation, SettingProblem, UrlProblem } from "../errors.ts";
import { koBackups } from "./backups-ko.ts";
import { describeDiagnosis } from "./diagnosis.ts";
import { describeData, formatBytes, formatDuration, formatList, formatNames, quoteWord } from "./format.ts";
import { makeGrants } from "./grants.ts";
import { hintLines } from "./hints.ts";
import { koHints } from "./hints-ko.ts";
import { koHistory } from "./history.ts";
import {
  describeBlockers,
  describeChanges,
  describeHeld,
  describeServer,
  describeWork,
  type Line,
  type Messages,
} from "./messages.ts";
import { koDiagnosis, koResolution, koResolveErrors } from "./resolve-ko.ts";

const detail = (text: string): Line => ({ detail: text });
const details = (lines: readonly string[]): Line[] => lines.map(detail);
const checkBackups = "백업은 그대로 있습니다.";
const BLOCKER_WORDS = {
  unnamed: "이름 없음",
  prepared: "준비된 트랜잭션 (PREPARE TRANSACTION)",
  others: "그 밖의 세션",
};
const HELD_WORDS = { held: "독점 중인 테이블", others: "그 외", grown: "데이터베이스 증가량", about: "약" };

export const ko: Messages = {
  events: {
    "deploy-started": () => ["🚀 고도화된 배포 프로세스 시작..."],
    "reading-status": () => ["📊 스키마 변경사항 확인 중..."],
    "up-to-date": () => ["✅ 데이터베이스 스키마가 최신 상태입니다. 마이그레이션이 필요하지 않습니다."],
    "pending-found": ({ pending, segments }) => [
      "⚠️  스키마 변경사항이 감지되었습니다.",
      detail(`적용 대기: ${pending.length}건${segments.length === 0 ? "" : `, 트랜잭션: ${segments.length}개`}`),
      ...details(formatList(pending)),
    ],
    "backup-planned": ({ directory, format, sizeBytes }) => [
      detail(`백업: ${directory} (${format}, 약 ${formatBytes(sizeBytes)})`),
    ],
    "backup-started": ({ reasons }) => [
      "📦 데이터 백업을 시작합니다...",
      ...details(reasons.map((reason) => `pg_dump --format=custom: ${ko.reasons[reason]}`)),
    ],
    "backup-finished": ({ path, sizeBytes, durationMs, isReused = false }) => [
      `✅ PostgreSQL 백업 완료: ${path}`,
      detail(`${formatBytes(sizeBytes)}, ${formatDuration(durationMs)}, 전체 검증됨`),
      ...(isReused ? [detail("이전 배포의 백업을 다시 사용 (이후 변경이 없음을 증명)")] : []),
    ],
    "migration-started": ({ engine }) => [
      "🔄 마이그레이션을 시작합니다...",
      ...(engine === "prisma" ? [detail("실행: prisma migrate deploy")] : []),
    ],
    "migration-finished": ({ durationMs, applied }) => [
      "✅ 마이그레이션이 성공적으로 완료되었습니다.",
      detail(`${applied.length}건, ${formatDuration(durationMs)}`),
    ],
    "prune-started": () => ["🧹 오래된 백업 파일 정리 중..."],
    "app-starting": () => ["🚀 애플리케이션을 시작합니다..."],
    "migration-failed": () => ["❌ 마이그레이션 실패!"],
    "restore-started": ({ backupPath }) => ["🔄 백업에서 복원을 시도합니다...", detail(backupPath)],
    "restore-finished": ({ durationMs }) => ["✅ 백업에서 복원 완료", detail(`${formatDuration(durationMs)}, 검증됨`)],
    "deploy-failed": () => ["❌ 배포 실패. 수동 확인이 필요합니다."],

    "database-waiting": ({ reason, waitedMs }) => [
      detail(`데이터베이스 응답을 기다리는 중 (${formatDuration(waitedMs)}): ${reason}`),
    ],
    "database-created": ({ database }) => [detail(`데이터베이스 생성: ${database}`)],
    "lock-waiting": ({ holder, waitedMs }) => [
      detail(
        `다른 배포가 끝나기를 기다리는 중 (${formatDuration(waitedMs)})${
          holder === undefined
            ? ""
            : `: pid ${holder.pid}, ${holder.applicationName || "이름 없음"}, ${holder.clientAddress ?? "로컬"}, ${
                holder.since ?? "?"
              }부터`
        }`,
      ),
      ...(holder?.statement === undefined || holder.statement === ""
        ? []
        : [detail(`  실행 중인 문장: ${holder.statement}`)]),
    ],
    "work-found": () => [],
    diagnosed: ({ diagnoses }) =>
      diagnoses.flatMap((diagnosis) => [
        detail(diagnosis.migration),
        ...details(describeDiagnosis(diagnosis, koDiagnosis)),
      ]),
    "deployed-by-another": () => [detail("다른 배포가 방금 마이그레이션을 끝냈습니다.")],
    "interrupted-found": ({ startedAt, migrations }) => [
      detail(`중단된 이전 배포를 먼저 마무리하거나 되돌립니다. (시작: ${startedAt})`),
      ...details(formatList(migrations)),
    ],
    "interrupted-whole": ({ applied, notApplied }) => [
      detail(`중단된 배포에서 온전히 적용된 마이그레이션: ${formatNames(applied)}`),
      ...(notApplied.length === 0 ? [] : [detail(`적용되지 않은 마이그레이션: ${formatNames(notApplied)}`)]),
    ],
    "interrupted-restored": ({ backupPath }) => [
      detail("중단된 배포가 이미 복원을 마쳤습니다. 배포 전 상태와 비교한 결과 같습니다."),
      detail(backupPath),
    ],
    "restore-plan": ({ rungs, reasons, swapReasons }) => [
      detail(
        rungs.length > 0 ? `실패하면: ${rungs.map((rung) => ko.rungs[rung]).join(" → ")}` : "실패하면: 자동 복원 불가",
      ),
      ...details(swapReasons.map((reason) => `  ${ko.rungs.swap} 불가: ${ko.reasons[reason]}`)),
      ...details(reasons.map((reason) => `  ${ko.reasons[reason]}`)),
    ],
    "migration-running": () => [],
    "migration-progress": ({ name, number, total, runningMs, waiting, work, held }) => [
      detail(`진행 중: ${name} (${number}/${total}), ${formatDuration(runningMs)}`),
      ...(work === undefined ? [] : [detail(`  ${describeWork(work)}`)]),
      ...(held === undefined ? [] : details(describeHeld(held, HELD_WORDS))),
      ...(waiting === undefined
        ? []
        : [
            detail(`  잠금 대기 ${formatDuration(waiting.waitedMs)}, 잡고 있는 세션:`),
            ...details(describeBlockers(waiting, BLOCKER_WORDS)),
          ]),
    ],
    "data-progress": ({ work, bytes, totalBytes, bytesPerSecond, elapsedMs }) => [
      detail(
        `${{ backup: "백업 중", verify: "백업 검증 중", restore: "복원 중" }[work]}: ${describeData(bytes, totalBytes, "약")}, ${formatBytes(bytesPerSecond)}/s, ${formatDuration(elapsedMs)}`,
      ),
    ],
    "migration-applied": ({ name, durationMs }) => [detail(`적용: ${name} (${formatDuration(durationMs)})`)],
    notice: ({ severity, message }) => [detail(`${severity}: ${message}`)],
    "segment-retrying": ({ attempt, waitMs, sqlState, message }) => [
      detail(`잠금을 얻지 못해 취소함: ${message} (${sqlState})`),
      detail(`${formatDuration(waitMs)} 뒤 다시 시도합니다 (${attempt}번째).`),
    ],
    "segment-split": ({ sqlState, message, segments }) => [
      detail(`한 트랜잭션으로 실행할 수 없어 취소하고 나눕니다: ${message} (${sqlState})`),
      ...details(
        segments.map((segment) => `  ${segment.atomic ? "트랜잭션" : "단독"}: ${formatNames(segment.migrations)}`),
      ),
    ],
    "prisma-output": ({ line }) => (line.trim() === "" ? [] : [detail(`prisma: ${line}`)]),
    "invalid-index-dropped": ({ index }) => [detail(`실패한 CONCURRENTLY가 남긴 INVALID 인덱스 삭제: ${index}`)],
    "rolled-back": ({ transactionId }) => [
      transactionId === undefined
        ? "↩️  남은 변경이 없어 데이터베이스는 배포 전 상태 그대로입니다. 복원이 필요하지 않습니다."
        : "↩️  트랜잭션이 취소되어 데이터베이스는 배포 전 상태 그대로입니다. 복원이 필요하지 않습니다.",
    ],
    "fence-raised": ({ ended, remaining, overridingRoles }) => [
      detail(`유지보수 모드: 다른 클라이언트의 쓰기를 막았습니다. 끊은 연결: ${ended}개`),
      ...(remaining > 0 ? [detail(`  ⚠️  끊을 수 없어 계속 쓸 수 있는 연결: ${remaining}개`)] : []),
      ...(overridingRoles.length > 0
        ? [detail(`  ⚠️  자체 설정 때문에 계속 쓸 수 있는 역할: ${overridingRoles.join(", ")}`)]
        : []),
    ],
    "fence-lowered": ({ ended, wasLeft }) => [
      detail(
        wasLeft
          ? `중단된 배포가 막아 둔 쓰기를 다시 허용했습니다. 끊은 연결: ${ended}개`
          : `다른 클라이언트의 쓰기를 다시 허용했습니다. 끊은 연결: ${ended}개`,
      ),
    ],
    "stopped-at-boundary": ({ applied, notApplied }) => [
      "⏸️  마이그레이션 경계에서 멈췄습니다. 적용된 마이그레이션은 모두 온전합니다.",
      detail(`적용됨: ${formatNames(applied)}`),
      detail(`적용되지 않음: ${formatNames(notApplied)}`),
    ],
    "restore-not-proven": ({ reasons }) => [
      detail("자동 복원을 하지 않습니다. 다른 클라이언트가 쓰지 않았다는 것을 증명할 수 없습니다:"),
      ...details(reasons.map((reason) => `  ${ko.reasons[reason]}`)),
    ],
    "rung-failed": ({ rung, error, next }) => {
      const words = ko.errors[error.code](error.fields as never);
      return [
        detail(`${ko.rungs[rung]} 실패: ${words.summary}`),
        ...details((words.details ?? []).map((line) => `  ${line}`)),
        ...(next === undefined
          ? []
          : [detail(`데이터베이스는 그대로입니다. 다음 방법을 시도합니다: ${ko.rungs[next]}`)]),
      ];
    },
    "restore-chosen": ({ database, how, path, createdAt, sizeBytes, otherDatabase, history }) => [
      detail(`백업: ${path} (${createdAt}, ${formatBytes(sizeBytes)})`),
      ...(otherDatabase === undefined ? [] : [detail(`  ⚠️  다른 데이터베이스의 백업입니다: ${otherDatabase}`)]),
      ...(history === undefined
        ? []
        : [detail(`  적용된 마이그레이션: ${history.applied}건, 마지막: ${history.last ?? "-"}`)]),
      detail(
        {
          swap: `복원본으로 교체합니다. 지금의 데이터베이스는 다른 이름으로 남습니다: ${database}`,
          "in-place": `⚠️  제자리에서 복원합니다. 백업 이후에 쓴 내용은 모두 사라집니다: ${database}`,
          aside: `새 데이터베이스에 복원합니다: ${database}`,
        }[how],
      ),
    ],
    "failed-database-kept": ({ database, sizeBytes, command }) => [
      detail(`실패한 데이터베이스는 보관합니다: ${database} (${formatBytes(sizeBytes)})`),
      detail("  남아 있는 동안 다음 배포는 데이터베이스를 교체하지 않습니다. 확인한 뒤 삭제하십시오:"),
      detail(`  ${command}`),
    ],
    "swap-resolved": ({ how, database, failed }) => [
      ...(how === "finished"
        ? [detail(`중단된 복원을 끝냈습니다. 복원된 데이터베이스: ${database}`)]
        : [detail(`중단된 복원을 취소했습니다. 복원 전 그대로인 데이터베이스: ${database}`)]),
      ...(failed === undefined ? [] : [detail(`실패한 데이터베이스는 보관합니다: ${failed}`)]),
    ],
    pruned: ({ paths, kept }) => [
      detail(paths.length === 0 ? `삭제할 백업 없음, 보관 ${kept}개` : `삭제 ${paths.length}개, 보관 ${kept}개`),
      ...details(paths.map((path) => `  ${path}`)),
    ],
    warning: ({ warning }) =>
      // The union is matched by its own key, which the compiler can't see through.
      ko.warnings[warning.about](warning as never).map((line, index) =>
        detail(index === 0 ? `⚠️  ${line}` : `   ${line}`),
      ),
  },

  warnings: {
    edited: ({ migrations }) => [
      `적용된 뒤 내용이 바뀐 마이그레이션: ${migrations.length}건`,
      ...formatList(migrations),
    ],
    missing: ({ migrations }) => [
      `적용되었지만 폴더에 없는 마이그레이션: ${migrations.length}건`,
      ...formatList(migrations),
    ],
    late: ({ migrations }) => [
      `이미 적용된 것보다 이름이 앞서는 마이그레이션: ${migrations.length}건 (Prisma처럼 적용합니다)`,
      ...formatList(migrations),
    ],
    order: ({ bytes, prisma, followed }) => [
      `이름 순서가 다릅니다. 적용 순서: ${followed === "bytes" ? "바이트 순서" : "Prisma 6.6 이상"} (MIGRATION_ORDER)`,
      `바이트 순서: ${bytes.join(", ")}`,
      `Prisma 6.6 이상: ${prisma.join(", ")}`,
    ],
    normalisation: ({ names }) => [
      "유니코드 정규화만 다른 이름이 적용 이력에 있습니다. 다른 마이그레이션으로 취급합니다.",
      ...formatList(names),
    ],
    "other-folder": ({ path, named, namedBy }) => [
      `Prisma CLI가 쓰는 폴더가 다릅니다: ${named} (${namedBy}). 이 배포의 폴더: ${path} (--migrations-dir)`,
    ],
    "empty-folder": ({ path }) => [`마이그레이션 폴더가 비어 있습니다: ${path}`],
    "non-atomic": ({ migrations, reasons }) => [
      `PostgreSQL이 하나의 트랜잭션을 허용하지 않는 마이그레이션: ${migrations.join(", ")}`,
      ...reasons.map(
        ({ kind, migration, subject, line }) =>
          `  ${migration}${line === undefined ? "" : `:${line}`}: ${ko.segmentReasons[kind]} (${subject})`,
      ),
    ],
    "backup-dir-in-container": ({ path }) => [
      `백업 폴더가 컨테이너 안에 있어 컨테이너와 함께 사라집니다. 볼륨을 연결하십시오: ${path}`,
    ],
    "swap-unfinished": () => ["데이터베이스를 복원본으로 교체하는 작업이 진행 중이거나 중단되었습니다."],
    fenced: ({ id, isHeld }) => [
      isHeld
        ? `유지보수 모드 배포가 쓰기를 막고 있습니다: ${id}`
        : `중단된 배포가 쓰기를 막아 두었습니다. 다음 배포가 다시 허용합니다: ${id}`,
    ],
    "no-tls": ({ host }) => [`TLS 없이 원격 서버에 연결합니다: ${host} (sslmode=require 권장)`],
    "invalid-index": ({ indexes }) => [`INVALID 상태의 인덱스가 있습니다: ${indexes.join(", ")}`],
    "restore-unproven": ({ reasons }) => [
      "다른 클라이언트가 쓰지 않았다는 것을 증명할 수 없습니다. 두 데이터베이스를 모두 보관합니다 (--restore=always).",
      ...reasons.map((reason) => `  ${ko.reasons[reason]}`),
    ],
    "schema-changed-by-others": () => ["배포 중에 다른 클라이언트가 스키마를 변경했습니다."],
    "state-file": ({ path, reason }) => [
      `헬스체크가 이 배포를 알 수 없습니다. 상태 파일을 쓸 수 없음: ${path} (${reason})`,
    ],
    "probe-port": ({ port, reason }) => [`프로브 요청에 응답할 수 없습니다. 포트 ${port}: ${reason}`],
    prune: ({ reason }) => [`백업 정리 실패 (배포 결과에는 영향이 없습니다): ${reason}`],
    unlock: ({ reason }) => [`배포 잠금 해제 실패 (연결이 끝나면 풀립니다): ${reason}`],
    fence: ({ reason }) => [
      `쓰기를 다시 허용하지 못했습니다: ${reason}`,
      "다시 배포하면 허용됩니다. 마이그레이션이 없어도 됩니다.",
    ],
    verify: ({ reason }) => [`적용 후 확인 실패: ${reason}`],
    journal: ({ reason }) => [`배포가 어떻게 끝났는지 저널에 쓰지 못함: ${reason}`],
    cleanup: ({ reason }) => [`정리 실패: ${reason}`],
  },

  errors: {
    SETTINGS_INVALID: ({ problems }) => ({
      summary: `설정 오류 ${problems.length}건`,
      details: problems.map(describeProblem),
      next: ["deploy --help"],
    }),
    MIGRATIONS_DIR_NOT_FOUND: ({ path, candidates = [] }) => ({
      summary: `마이그레이션 폴더 없음: ${path}`,
      next: [
        ...candidates
          .slice(0, 3)
          .map(
            (candidate) =>
              `이 폴더일 수 있습니다: --migrations-dir ${candidate.path}${candidate.namedBy === undefined ? "" : ` (출처: ${candidate.namedBy})`}`,
          ),
        "MIGRATIONS_DIR 또는 --migrations-dir 값을 확인하십시오.",
      ],
    }),
    MIGRATIONS_DIR_UNREADABLE: ({ path, reason }) => ({
      summary: `마이그레이션 폴더를 읽을 수 없음: ${path} (${reason})`,
      next: ["폴더의 권한과 소유자를 확인하십시오."],
    }),
    ...koResolveErrors,
    SCRIPT_MISSING: ({ migrations }) => ({
      summary: `migration.sql 파일이 없는 마이그레이션 ${migrations.length}건`,
      details: formatList(migrations),
      next: ["파일을 되살리거나 폴더를 삭제하십시오."],
    }),
    SCRIPT_UNREADABLE: ({ path, reason }) => ({
      summary: `파일을 읽을 수 없음: ${path} (${reason})`,
      next: ["파일의 권한과 소유자를 확인하십시오."],
    }),
    SCRIPT_NOT_UTF8: ({ path, byteOffset }) => ({
      summary: `UTF-8이 아닌 파일: ${path} (바이트 ${byteOffset})`,
      next: ["파일을 UTF-8(BOM 없음)로 저장하십시오."],
    }),
    PROVIDER_MISMATCH: ({ path, found }) => ({
      summary: `migration_lock.toml의 provider 값이 postgresql과 다름: ${found}`,
      details: [path],
      next: ['파일에 다음 줄이 있어야 합니다: provider = "postgresql"'],
    }),
    HISTORY_IN_OTHER_SCHEMA: ({ expected, found, user }) => ({
      summary: `적용 이력을 찾을 스키마가 분명하지 않음: 예상 ${expected}, 검색 경로 ${found || "없음"}`,
      next: [
        `연결 문자열에 ?schema=${expected} 값을 명시하십시오.`,
        `역할 이름과 같은 스키마 또는 search_path 설정을 확인하십시오 (역할: ${user}).`,
      ],
    }),
    HISTORY_UNREADABLE: ({ server }) => ({
      summary: "_prisma_migrations 테이블을 읽을 수 없음",
      details: describeServer(server),
      next: ["테이블의 권한과 열을 확인하십시오."],
    }),
    HISTORY_EDITED: ({ migrations }) => ({
      summary: `적용된 뒤 내용이 바뀐 마이그레이션 ${migrations.length}건`,
      details: formatList(migrations),
      next: [
        "파일을 적용 당시의 내용으로 되돌리고, 변경은 새 마이그레이션에 넣으십시오.",
        "허용하려면: --on-edited warn",
      ],
    }),
    HISTORY_MISSING: ({ migrations }) => ({
      summary: `적용되었지만 폴더에 없는 마이그레이션 ${migrations.length}건`,
      details: formatList(migrations),
      next: ["폴더를 되살리십시오.", "허용하려면: --on-missing warn"],
    }),
    LEDGER_UNSUPPORTED: ({ schema }) => ({
      summary: `Prisma 8의 적용 이력만 있는 데이터베이스 (스키마 ${schema})`,
      next: [
        "이 버전은 Prisma 5-7의 _prisma_migrations 테이블을 읽습니다. Prisma 8의 이력은 다른 곳에 있습니다.",
        "Prisma 8의 명령으로 마이그레이션하거나, DATABASE_URL이 원하는 데이터베이스인지 확인하십시오.",
      ],
    }),
    TOOL_NOT_FOUND: ({ tool }) => ({
      summary: `PostgreSQL 클라이언트 프로그램 없음: ${tool}`,
      next: ["Alpine: apk add --no-cache postgresql-client", "Debian/Ubuntu: apt-get install -y postgresql-client"],
    }),
    TOOL_TOO_OLD: ({ tool, path, toolVersion, serverVersion }) => ({
      summary: `${tool} ${toolVersion} 버전은 PostgreSQL ${serverVersion} 서버를 백업할 수 없음`,
      details: [path],
      next: [`서버와 같거나 더 새로운 주 버전의 postgresql-client 패키지를 설치하십시오.`],
    }),
    TOOL_FAILED: ({ tool, reason }) => ({ summary: `${tool} 실행 실패: ${reason}`, next: [`${tool} --version`] }),
    BACKUP_DIR_UNUSABLE: ({ path, reason }) => ({
      summary: `백업 폴더를 쓸 수 없음: ${path} (${reason})`,
      next: [`mkdir -p ${path}`, "chown -R <앱 사용자> 로 소유자를 맞추거나 BACKUP_DIR 값을 바꾸십시오."],
    }),
    BACKUP_NO_SPACE: ({ path, availableBytes, neededBytes }) => ({
      summary: `백업 공간 부족: ${path} (남음 ${formatBytes(availableBytes)}, 필요 ${formatBytes(neededBytes)})`,
      next: ["공간을 확보하거나 BACKUP_DIR 값을 바꾸십시오."],
    }),
    BACKUP_DENIED: ({ user, schemas, tables, sequences, hidden, largeObjects }) => ({
      summary: `백업할 권한이 없는 객체가 있음 (역할 ${user})`,
      details: [
        ...(schemas.length > 0 ? [`USAGE 권한이 없는 스키마: ${schemas.join(", ")}`] : []),
        ...(tables.length > 0 ? [`SELECT 권한이 없는 테이블: ${tables.join(", ")}`] : []),
        ...(sequences.length > 0 ? [`SELECT 권한이 없는 시퀀스: ${sequences.join(", ")}`] : []),
        ...(hidden.length > 0 ? [`행 수준 보안(RLS)으로 행이 가려지는 테이블: ${hidden.join(", ")}`] : []),
        ...(largeObjects.length > 0 ? [`읽을 수 없는 large object: ${largeObjects.join(", ")}`] : []),
      ],
      next: [
        ...makeGrants({ user, schemas, tables, sequences, hidden, largeObjects }),
        "또는 모든 객체를 소유한 역할로 배포하십시오 (DATABASE_URL).",
      ],
    }),
    BACKUP_FAILED: ({ tool, exitCode, output }) => ({
      summary: `백업 실패: ${tool}${exitCode === undefined ? "" : ` (종료 코드 ${exitCode})`}`,
      details: output.trim().split("\n").slice(-6),
      next: ["원인을 고친 뒤 다시 배포하십시오."],
    }),
    BACKUP_NOT_VERIFIED: ({ path, reason }) => ({
      summary: `백업 검증 실패: ${path}`,
      details: [reason],
      next: ["디스크 상태를 확인하고 다시 배포하십시오."],
    }),
    BACKUP_NOT_FOUND: ({ path, wanted }) => ({
      summary: `백업 없음: ${wanted} (폴더 ${path})`,
      next: ["deploy backups", "BACKUP_DIR 값 또는 파일의 경로를 확인하십시오."],
    }),
    SCRIPT_INVALID: ({ migration, server }) => ({
      summary: `실행할 수 없는 마이그레이션: ${migration}`,
      details: describeServer(server),
      next: ["migration.sql 파일을 고치십시오.", ...hintLines(server, ko.hints)],
    }),
    POOLER_IN_TRANSACTION_MODE: ({ host, port, direct }) => ({
      summary: `트랜잭션 모드 풀러를 거친 연결: ${host}:${port}`,
      next: [
        "풀러를 거치지 않는 주소를 DIRECT_URL에 지정하십시오.",
        ...(direct === undefined ? [] : [`${direct.path} 파일의 주소를 쓰려면: DIRECT_URL="$${direct.variable}"`]),
      ],
    }),
    PRISMA_CLI_NOT_FOUND: ({ directory }) => ({
      summary: `Prisma CLI 없음: ${directory}`,
      next: ["npm install prisma", "또는 MIGRATE_ENGINE=native 값을 쓰십시오."],
    }),
    RIGHTS_MISSING: ({ reason }) => ({
      summary: `권한 부족: ${reason}`,
      next: ["DATABASE_URL의 역할을 확인하십시오."],
    }),
    FENCE_DENIED: ({ database, owner, user, isLeft }) => ({
      summary: `${isLeft ? "중단된 배포가 막아 둔 쓰기를 다시 허용할" : "유지보수 모드를 쓸"} 권한 없음: 데이터베이스 ${database}, 소유자 ${owner}, 접속한 역할 ${user}`,
      next: [
        isLeft
          ? "데이터베이스 소유자로 한 번 배포하십시오. 마이그레이션이 없어도 됩니다."
          : "데이터베이스 소유자로 배포하거나, --maintenance 없이 배포하십시오.",
        `소유자를 바꾸려면: ALTER DATABASE "${database}" OWNER TO "${user}"`,
      ],
    }),
    RESTORE_IMPOSSIBLE: ({ reasons }) => ({
      summary: "이 백업을 복원할 수 없음",
      details: reasons.map((reason) => ko.reasons[reason]),
      next: [
        "데이터베이스 소유자이면서 CREATEDB 권한이 있는 역할 또는 superuser로 실행하십시오.",
        "새 데이터베이스에 복원하려면: deploy restore --into <name>",
      ],
    }),
    RESTORE_TARGET_EXISTS: ({ database }) => ({
      summary: `데이터베이스가 이미 있음: ${database}`,
      next: ["--into 값을 다른 이름으로 바꾸십시오."],
    }),
    RESTORE_NOT_CONSENTED: ({ database, given }) => ({
      summary:
        given === undefined
          ? `복원 동의 필요: ${database}`
          : `데이터베이스 이름이 다름: ${given} (복원 대상: ${database})`,
      next: [`동의하려면: --yes-restore ${database}`],
    }),
    NO_AUTOMATIC_RESTORE: ({ migrations, reasons }) => ({
      summary: `반쯤 적용될 수 있으나 자동 복원이 불가능한 마이그레이션: ${migrations.join(", ")}`,
      details: reasons.map((reason) => ko.reasons[reason]),
      next: ["마이그레이션을 나누거나, 위험을 받아들이려면: --accept-manual-restore"],
    }),
    BACKUP_FORMAT_UNSUITABLE: ({ reasons }) => ({
      summary: `plain 형식으로는 자동 복원이 불가능함`,
      details: reasons.map((reason) => ko.reasons[reason]),
      next: ["BACKUP_FORMAT=auto 또는 custom 값을 쓰십시오."],
    }),
    DATABASE_UNREACHABLE: ({ host, port, reason, waitedMs }) => ({
      summary: `데이터베이스에 연결할 수 없음: ${host}:${port} (${reason}, ${formatDuration(waitedMs)} 동안 시도)`,
      next: ["서버가 실행 중인지, 주소와 방화벽이 맞는지 확인하십시오."],
    }),
    DATABASE_STARTING: ({ host, port, waitedMs }) => ({
      summary: `데이터베이스가 아직 시작 중: ${host}:${port} (${formatDuration(waitedMs)} 동안 기다림)`,
      next: ["더 오래 기다리려면: --wait 5m"],
    }),
    AUTHENTICATION_FAILED: ({ user, host, reason }) => ({
      summary: `인증 실패: 역할 ${user}, 서버 ${host}`,
      details: [reason],
      next: ["DATABASE_URL의 역할과 비밀번호를 확인하십시오."],
    }),
    DATABASE_NOT_FOUND: ({ database, host }) => ({
      summary: `데이터베이스 없음: ${database} (서버 ${host})`,
      next: ["deploy --create-database", `또는: createdb ${database}`],
    }),
    DATABASE_REFUSED: ({ server }) => ({
      summary: "데이터베이스가 연결을 거부함",
      details: describeServer(server),
      next: ["서버의 상태를 확인한 뒤 다시 배포하십시오."],
    }),
    SWAP_UNFINISHED: ({ database, isAtWork, reason }) => ({
      summary: isAtWork ? `다른 배포가 복원 중인 데이터베이스: ${database}` : `복원이 중단된 데이터베이스: ${database}`,
      details: reason === undefined ? [] : [reason],
      next: [
        isAtWork
          ? "복원이 끝난 뒤 다시 실행하십시오."
          : "deploy 명령을 소유자 역할로 실행하면 복원을 끝내거나 취소합니다.",
      ],
    }),
    DATABASE_READ_ONLY: ({ inRecovery }) => ({
      summary: inRecovery ? "읽기 전용 서버 (복제본)" : "읽기 전용 데이터베이스",
      next: [inRecovery ? "주 서버의 주소를 지정하십시오." : "default_transaction_read_only 설정을 확인하십시오."],
    }),
    TLS_FAILED: ({ host, reason }) => ({
      summary: `TLS 연결 실패: ${host}`,
      details: [reason],
      next: ["sslmode, sslaccept, sslcert 값을 확인하십시오."],
    }),
    SERVER_TOO_OLD: ({ serverVersion, minimum }) => ({
      summary: `지원하지 않는 PostgreSQL 버전: ${serverVersion} (최소 ${minimum})`,
      next: ["서버를 업그레이드하십시오."],
    }),
    CONNECTION_LOST: ({ during, reason }) => ({
      summary: `데이터베이스 연결 끊김: ${during}`,
      details: [reason],
      next: ["서버와 네트워크를 확인한 뒤 다시 배포하십시오."],
    }),
    DEADLINE_EXCEEDED: ({ during, deadlineMs }) => ({
      summary: `시간 초과 (${formatDuration(deadlineMs)}): ${during}`,
      next: ["서버의 부하와 네트워크를 확인한 뒤 다시 배포하십시오."],
    }),
    STATEMENT_FAILED: ({ during, server }) => ({
      summary: `데이터베이스 오류: ${during}`,
      details: describeServer(server),
      next: ["원인을 고친 뒤 다시 배포하십시오."],
    }),
    LOCK_NOT_ACQUIRED: ({ holder, waitedMs }) => ({
      summary: `다른 배포가 끝나지 않음 (${formatDuration(waitedMs)} 동안 기다림)`,
      ...(holder === undefined
        ? {}
        : {
            details: [`pid ${holder.pid}, ${holder.applicationName || "이름 없음"}, ${holder.clientAddress ?? "로컬"}`],
          }),
      next: ["다른 배포가 끝난 뒤 다시 실행하십시오.", "더 오래 기다리려면: --lock-wait 30m"],
    }),
    APP_NOT_FOUND: ({ command }) => ({
      summary: `앱 명령을 찾을 수 없음: ${command}`,
      next: ["-- 뒤의 명령과 PATH 값을 확인하십시오."],
    }),
    APP_NOT_EXECUTABLE: ({ path, reason }) => ({
      summary: `앱 명령을 실행할 수 없음: ${path} (${reason})`,
      next: [`chmod +x ${path}`],
    }),
    INTERRUPTED: ({ signal }) => ({ summary: `중단됨: ${signal}`, next: ["다시 배포하십시오."] }),
    FAILED_BEFORE: ({ failures, lastFailedAt, retryAt, waitMs, failure, migration, sqlState }) => ({
      summary: `같은 마이그레이션이 이미 실패하여 나중에 다시 시도 (남은 시간: ${formatDuration(waitMs)})`,
      details: [
        `실패 ${failures}회, 마지막 실패: ${lastFailedAt} (${[failure, migration, sqlState].filter(Boolean).join(", ")})`,
        `다음 시도: ${retryAt} 이후`,
      ],
      next: [
        "스크립트나 데이터를 고칩니다. 스크립트가 바뀌면 바로 시도합니다.",
        "그대로 바로 시도하려면: deploy --retry",
      ],
    }),
    MIGRATION_FAILED: ({ migration, path, server, location }) => ({
      summary: `실패한 마이그레이션: ${migration}`,
      details: describeServer(server),
      next: [`고칠 곳: ${path}${location === undefined ? "" : `:${location.line}`}`, ...hintLines(server, ko.hints)],
    }),
    MIGRATION_BROKE_TRANSACTION: ({ migration, reason }) => ({
      summary: `트랜잭션을 스스로 끝내거나 열어 둔 마이그레이션: ${migration}`,
      details: [reason],
      next: [`${migration}/migration.sql 파일의 BEGIN/COMMIT 짝을 맞추십시오.`],
    }),
    MIGRATION_LEFT_SESSION_CHANGED: ({ migration, reason }) => ({
      summary: `세션 설정을 바꾸고 되돌리지 않은 마이그레이션: ${migration}`,
      details: [reason],
      next: ["SET 대신 SET LOCAL을 쓰십시오."],
    }),
    PRISMA_CLI_FAILED: ({ exitCode, signal, output, problem, migration }) => ({
      summary: {
        failed: `prisma migrate deploy 실패 (${exitCode === undefined ? `신호 ${signal ?? "?"}` : `종료 코드 ${exitCode}`})`,
        "timed-out": "prisma migrate deploy 실행이 --prisma-timeout 제한을 넘음",
        unfinished: "Prisma는 성공이라고 하지만 커밋하지 않은 마이그레이션이 있음",
        "other-database": "Prisma CLI가 다른 데이터베이스에서 실행됨",
        unexplained: "prisma migrate deploy 결과를 확인할 수 없음",
      }[problem],
      details: [
        ...(migration === undefined ? [] : [`끝나지 않은 마이그레이션: ${migration}`]),
        ...output.trim().split("\n").slice(-8),
      ],
      next: [
        {
          failed: "위의 Prisma 출력을 확인하십시오.",
          "timed-out": "무엇이 막았는지 확인하거나 제한을 늘리십시오: --prisma-timeout 1h",
          unfinished: "위의 Prisma 출력을 확인하십시오.",
          "other-database": "schema.prisma 또는 prisma.config.ts 파일의 URL이 DATABASE_URL과 같은지 확인하십시오.",
          unexplained: "위의 Prisma 출력을 확인하십시오.",
        }[problem],
      ],
    }),
    DEPLOY_INTERRUPTED: ({ startedAt, migration }) => ({
      summary: `중단된 이전 배포를 자동으로 되돌릴 수 없음 (시작: ${startedAt})`,
      ...(migration === undefined ? {} : { details: [`끝나지 않은 마이그레이션: ${migration}`] }),
      next: ["남은 상태를 확인한 뒤 백업을 복원하거나 기록합니다: deploy resolve --rolled-back | --applied"],
    }),
    COMMIT_UNKNOWN: ({ transactionId, reason }) => ({
      summary: `COMMIT 결과를 알 수 없음 (트랜잭션 ${transactionId})`,
      details: [reason],
      next: [`SELECT pg_xact_status('${transactionId}'::xid8);`],
    }),
    VERIFY_FAILED: ({ migrations }) => ({
      summary: "적용 후 이력이 예상과 다름",
      details: formatList(migrations),
      next: ["npx prisma migrate status"],
    }),
    UNEXPECTED: ({ during, stack }) => ({
      summary: `예상하지 못한 오류: ${{ migrate: "마이그레이션", restore: "복원", verify: "확인" }[during]} 중`,
      details: stack.split("\n"),
      next: ["이 프로그램의 버그이니 위의 내용과 함께 알려 주십시오."],
    }),
    RESTORE_FAILED: ({ tool, exitCode, output }) => ({
      summary: `복원 실패: ${tool}${exitCode === undefined ? "" : ` (종료 코드 ${exitCode})`}`,
      details: output.trim().split("\n").slice(-6),
      next: [checkBackups],
    }),
    RESTORE_NOT_PROVEN: ({ reasons }) => ({
      summary: "다른 클라이언트의 쓰기가 없었다는 증명 불가",
      details: reasons.map((reason) => ko.reasons[reason]),
      next: [checkBackups],
    }),
    RESTORE_DIFFERS: ({ differences }) => ({
      summary: "복원 결과가 백업과 다름",
      details: differences,
      next: [checkBackups],
    }),
  },

  reasons: {
    "other-server": "다른 서버이거나 복구된 서버입니다.",
    "transactions-committed": "백업 이후 다른 트랜잭션이 커밋되었습니다.",
    "transactions-unknown": "백업 이후의 트랜잭션 상태를 서버가 알려 주지 않습니다.",
    "server-before-15": "PostgreSQL 15 미만에서는 접속 수로 증명할 수 없습니다.",
    "clients-at-mark": "백업할 때 다른 클라이언트가 접속해 있었습니다.",
    "clients-now": "지금 다른 클라이언트가 접속해 있습니다.",
    "sessions-uncounted": "백업 이후 다른 클라이언트가 접속했습니다.",
    "sessions-unknown": "우리가 연 접속 수를 정확히 알 수 없습니다.",
    "statistics-reset": "서버 통계가 초기화되었습니다.",
    "server-restarted": "서버가 다시 시작되었습니다.",
    "prepared-transactions": "준비된 트랜잭션(2PC)이 있습니다.",
    subscriptions: "논리 복제 구독이 있습니다.",
    "worker-extensions": "백그라운드에서 쓰는 확장이 설치되어 있습니다.",
    "replication-connections": "복제 연결이 데이터베이스를 사용했습니다.",
    "large-objects": "large object가 있습니다.",
    "foreign-objects": "이 역할의 소유가 아닌 객체가 있습니다.",
    "publications-for-all-tables": "FOR ALL TABLES publication이 있습니다.",
    "extensions-in-schemas": "다른 스키마에 설치된 확장이 있습니다.",
    "replication-slots": "복제 슬롯이 있습니다.",
    "too-many-objects": "객체가 많아 한 트랜잭션으로 복원할 수 없습니다 (max_locks_per_transaction).",
    "extensions-with-own-restore": "자체 복원 절차가 필요한 확장이 있습니다.",
    "create-denied": "스키마를 만들 권한이 없습니다.",
    "foreign-large-objects": "이 역할의 소유가 아닌 large object가 있습니다.",
    "foreign-dependents": "다른 역할의 객체가 우리 객체에 의존합니다.",
    "foreign-writable": "다른 역할의 테이블에 쓸 수 있어, 그 변경은 되돌릴 수 없습니다.",
    "foreign-grantors": "다른 역할이 부여한 권한이 있습니다.",
    "superuser-made": "슈퍼유저만 다시 만들 수 있는 객체를 소유하고 있습니다. 슈퍼유저로 배포하면 복원할 수 있습니다.",
    "not-giveable":
      "다른 역할이 소유한 객체가 있는데 그 역할은 스키마의 소유자가 아닙니다. 객체와 스키마의 소유자를 같게 하거나 슈퍼유저로 배포하면 복원할 수 있습니다.",
    "plain-format": "plain 형식으로는 복원할 수 없습니다.",
    "not-wanted": "설정으로 제외되었습니다 (--restore).",
    "not-owner": "데이터베이스의 소유자가 아닙니다 (ALTER DATABASE ... OWNER TO).",
    "create-database-denied": "데이터베이스를 만들 권한이 없습니다 (ALTER ROLE ... CREATEDB).",
    "tablespace-denied": "데이터베이스의 테이블스페이스를 쓸 권한이 없습니다 (GRANT CREATE ON TABLESPACE).",
    "no-maintenance-database": "postgres, template1 데이터베이스에 접속할 수 없습니다 (--maintenance-database).",
    "failed-database-kept": "이전에 실패한 데이터베이스(*_failed_*)가 남아 있습니다. 확인한 뒤 삭제하십시오.",
    "properties-not-settable": "데이터베이스의 설정 가운데 이 역할이 옮길 수 없는 것이 있습니다 (superuser).",
    "database-grantors": "데이터베이스의 권한을 소유자가 아닌 역할이 부여했습니다.",
    "extensions-not-creatable": "다시 설치할 수 없는 확장이 있습니다.",
    "sessions-not-ended": "이 역할이 끊을 수 없는 접속이 있습니다 (pg_signal_backend).",
    "database-reopened": "복원하는 동안 누군가 데이터베이스를 다시 열었거나 변경했습니다.",
    "cluster-roles": "역할이 변경되었습니다.",
    "cluster-memberships": "역할의 소속이 변경되었습니다.",
    "cluster-databases": "다른 데이터베이스가 변경되었습니다.",
    "cluster-tablespaces": "테이블스페이스가 변경되었습니다.",
    "cluster-settings": "역할 또는 다른 데이터베이스의 설정이 변경되었습니다.",
  },

  rungs: { rollback: "트랜잭션 취소", swap: "복원본으로 교체", "in-place": "한 트랜잭션으로 제자리 복원" },

  segmentReasons: {
    "not-parsed": "문법을 해석할 수 없음",
    "outside-transaction": "트랜잭션 안에서 실행할 수 없음",
    "transaction-control": "트랜잭션을 스스로 제어함",
    "may-commit": "스스로 커밋할 수 있음",
    "sets-transaction": "트랜잭션 속성을 설정함",
    "enum-value": "커밋되기 전의 enum 값을 사용함",
    "lasts-until-commit": "커밋까지 남는 상태를 만듦",
    "refused-by-server": "서버가 거부함",
  },

  states: {
    untouched: "데이터베이스는 변경되지 않았습니다. 앱을 시작하지 않았습니다.",
    "as-before": "데이터베이스는 배포 전과 같습니다. 앱을 시작하지 않았습니다.",
    "at-boundary": "앞의 마이그레이션은 온전히 적용되었고 나머지는 적용되지 않았습니다. 앱을 시작하지 않았습니다.",
    migrated: "데이터베이스는 최신 상태입니다. 앱을 시작하지 못했습니다.",
    unknown: "데이터베이스가 변경되었을 수 있습니다. 더는 아무것도 건드리지 않았고 앱을 시작하지 않았습니다.",
  },

  hints: koHints,

  diagnosis: koDiagnosis,
  resolution: koResolution,
  backups: koBackups,
  history: koHistory,

  settingProblem: describeProblem,

  labels: {
    stopped: (summary) => `❌ 배포 중단: ${summary}`,
    state: "상태",
    next: "다음",
    code: (code, exitCode) => `코드  ${code} (종료 코드 ${exitCode})`,
    bug: "예상하지 못한 오류입니다. 이 프로그램의 버그이니 아래 내용과 함께 알려 주십시오.",
    consent: "복원하려면 데이터베이스 이름을 입력하십시오",
    usage: "사용법: deploy [명령] [플래그] [-- 앱 명령...]",
    commands: "명령",
    settings: "설정 (플래그, 환경 변수, 기본값)",
    default: "기본값",
    required: "필수",
    exitCodes:
      "종료 코드: 0 성공, 2 설정, 3 이력, 4 사전 점검·백업, 5 실패(배포 전 상태), 6 사람이 확인, 7 연결, 8 경계, 75 다른 배포",
  },
  choices: {
    restore: (choices) => {
      const changed = describeChanges(choices, { rows: (rows) => `${rows}행` });
      const { backup, database, backupSizeBytes, restoreMs, restore, changes } = choices;
      const command = `deploy restore ${backup}`;
      const consenting = `${command} --yes-restore ${quoteWord(database)}`;
      return [
        "백업으로 되돌리려면:",
        ...(restore?.how === "impossible"
          ? [
              "  deploy restore 명령으로는 지금 되돌릴 수 없습니다:",
              ...restore.reasons.map((reason) => `    ${ko.reasons[reason]}`),
              ...(choices.isForAnotherRole
                ? [
                    `  데이터베이스 소유자이면서 CREATEDB 권한이 있는 역할 또는 superuser로 (DATABASE_URL): ${consenting}`,
                  ]
                : []),
              ...(choices.mayRestoreInto ? [`  새 데이터베이스에 복원하려면: ${command} --into <name>`] : []),
            ]
          : [`  ${restore === undefined ? command : consenting}`]),
        `  백업 ${formatBytes(backupSizeBytes)}, 예상 시간: ${restoreMs === undefined ? "알 수 없음" : `약 ${formatDuration(restoreMs)}`}`,
        changes === undefined
          ? "  백업 이후 바뀐 행: 알 수 없음"
          : `  백업 이후 바뀐 행 (이 배포와 다른 클라이언트, 서버 통계 기준): ${changed ?? "없음"}`,
        ...(restore?.how === "swap" ? ["  지금의 데이터베이스는 다른 이름으로 남으므로 사라지는 것은 없습니다."] : []),
        ...(choices.isHeld ? [`  ${ko.reasons["sessions-not-ended"]}`, "  그 접속이 끝난 뒤에 실행하십시오."] : []),
        ...(restore?.how === "in-place" ? ["  제자리에서 복원하므로 백업 이후에 쓴 내용은 모두 사라집니다."] : []),
        ...(restore === undefined
          ? ["  지금의 데이터베이스가 남을지 확인하지 못했습니다. 이 명령은 그것을 먼저 알리고 동의를 구합니다."]
          : []),
      ];
    },
    goOn: ({ unfinished, backupMs }) => [
      "그대로 두고 계속하려면:",
      ...(unfinished === undefined ? ["  끝나지 않은 마이그레이션을 보려면: deploy status"] : []),
      ...(unfinished ?? []).flatMap((name) => [
        `  남은 것이 없으면: deploy resolve --rolled-back ${quoteWord(name)}`,
        `  모두 적용되었으면: deploy resolve --applied ${quoteWord(name)}`,
      ]),
      "  deploy",
      `  예상 시간 (적용할 것이 있으면): 백업 ${backupMs === undefined ? "알 수 없음" : `약 ${formatDuration(backupMs)}`}, 그리고 마이그레이션`,
      "  다른 클라이언트가 쓴 내용은 그대로 남습니다.",
    ],
    byTools: (choices) => [
      "PostgreSQL 도구로 직접 복원하려면:",
      ...(choices?.againstTools === undefined ? ["  이 역할에 필요한 권한이 있는지 확인하지 못했습니다."] : []),
      ...(choices?.againstTools?.length ? ["  지금의 역할과 상태로는 실행할 수 없습니다:"] : []),
      ...(choices?.againstTools ?? []).map((reason) => `    ${ko.reasons[reason]}`),
      ...(choices?.isForAnotherRole ? ["  그래서 다른 역할의 이름부터 입력받습니다. 예: superuser"] : []),
    ],
  },
  commandHelp: {
    deploy: "상태 확인, 백업, 마이그레이션, 정리, 앱 시작",
    status: "적용 이력과 폴더를 비교해 보여 줍니다 (0 최신, 3 차단, 10 적용 대기).",
    resolve: "데이터베이스를 확인한 뒤 마이그레이션 하나를 적용됨 또는 되돌림으로 기록합니다.",
    baseline: "이미 있던 데이터베이스에 폴더의 모든 마이그레이션을 적용됨으로 기록합니다.",
    plan: "무엇을 할지 보여 줍니다 (--json: 기계가 읽을 형식). 아무것도 바꾸지 않습니다.",
    backup: "지금 백업하고 전체를 검증합니다. 표준 출력에는 백업 파일의 경로만 씁니다.",
    backups: "백업 목록: 시각, 크기, 형식, 검증, 이후 마이그레이션, 삭제 예정",
    history: "지난 배포: 시각, 마이그레이션, 소요 시간, 결과, 백업",
    restore: "백업을 복원합니다: 파일, latest (기본값), --before, --into, --yes-restore",
    verify: "백업을 끝까지 읽어 검증합니다: 파일, latest (기본값), all (4: 손상됨)",
    prune: "보관 정책에 따라 오래된 백업을 삭제합니다 (--dry-run: 보여 주기만 함).",
    healthCheck: "상태 검사: health-check 또는 deploy health-check (--help 참고)",
  },
  status: {
    database: "데이터베이스",
    schema: "스키마",
    found: (count) => `폴더의 마이그레이션: ${count}건`,
    applied: (count) => `적용됨: ${count}건`,
    pending: (count) => `적용 대기: ${count}건`,
    running: (count) => `실행 중: ${count}건`,
    runningBy: "실행 중인 세션",
    failed: (count) => `실패: ${count}건`,
    rolledBack: (count) => `되돌림 표시됨: ${count}건`,
    missing: (count) => `폴더에 없음: ${count}건`,
    edited: (count) => `내용 변경됨: ${count}건`,
    late: (count) => `순서 어긋남: ${count}건`,
    lastCommon: "마지막 공통 마이그레이션",
    noHistory: "아직 이력이 없습니다 (_prisma_migrations).",
    fenced: "--maintenance 배포가 쓰기를 막고 있습니다 (진행 중이거나 중단됨):",
    upToDate: "데이터베이스 스키마가 최신 상태입니다.",
    blocked: "배포 불가",
    toApply: "적용하려면: deploy",
  },
};

function describeProblem(problem: SettingProblem): string {
  switch (problem.kind) {
    case "unknown-flag":
      return `알 수 없는 플래그: ${problem.flag}${problem.nearest === undefined ? "" : ` (혹시 ${problem.nearest}?)`}`;
    case "unknown-command":
      return `알 수 없는 명령: ${problem.command}${
        problem.nearest === undefined ? " (앱 명령은 -- 뒤에 씁니다)" : ` (혹시 ${problem.nearest}?)`
      }`;
    case "surplus":
      return `남는 인자: ${problem.argument} (앱 명령은 -- 뒤에 씁니다)`;
    case "missing":
      return problem.elsewhere === undefined
        ? `필수 환경 변수가 없습니다: ${problem.name}`
        : `필수 환경 변수가 없습니다: ${problem.name} (${problem.elsewhere.path} 파일의 변수: ${problem.elsewhere.variable})`;
    case "one-of-flags":
      return `다음 중 하나만 지정하십시오: ${problem.flags.join(", ")}`;
    case "only-with":
      return `${problem.commands.join(", ")} 명령에만 쓰는 플래그: ${problem.flag}`;
    case "missing-value":
      return `값이 필요합니다: ${problem.flag}`;
    case "unexpected-value":
      return `값을 받지 않는 플래그: ${problem.flag}`;
    case "invalid":
      return `${problem.name}: 잘못된 값 '${problem.value}', ${describeExpectation(problem.expected)}`;
    case "invalid-url":
      return `${problem.name}: ${describeUrlProblem(problem.reason)}`;
    case "unreadable-file":
      return `${problem.name}: 파일을 읽을 수 없습니다: ${problem.path} (${problem.reason})`;
  }
}

function describeExpectation(expected: SettingExpectation): string {
  switch (expected.kind) {
    case "whole-number":
      return `${expected.minimum} 이상의 정수여야 합니다.`;
    case "duration":
      return "시간이어야 합니다 (예: 500ms, 3s, 15m, 1h).";
    case "one-of":
      return `다음 중 하나여야 합니다: ${expected.values.join(", ")}`;
    case "path":
      return "경로여야 합니다.";
    case "text":
      return "비어 있을 수 없습니다.";
  }
}

function describeUrlProblem(problem: UrlProblem): string {
  switch (problem.kind) {
    case "empty":
      return "비어 있습니다.";
    case "not-a-url":
      return "연결 문자열이 아닙니다 (예: postgresql://사용자:비밀번호@호스트:5432/데이터베이스).";
    case "scheme":
      return `postgresql:// 또는 postgres:// 주소여야 합니다 (현재: ${problem.scheme}://).`;
    case "accelerate":
      return "Prisma Accelerate 주소로는 배포할 수 없습니다. 데이터베이스의 직접 주소를 쓰십시오.";
    case "several-hosts":
      return "호스트는 하나만 쓸 수 있습니다.";
    case "port":
      return `잘못된 포트: ${problem.value}`;
    case "percent-encoding":
      return `특수 문자를 퍼센트 인코딩해야 합니다 (예: # → %23, % → %25). 위치: ${
        { user: "사용자", password: "비밀번호", host: "호스트" }[problem.part]
      }`;
    case "parameter":
      return `잘못된 매개변수 값: ${problem.name}=${problem.value}`;
  }
}
