/** Korean for `resolve`, `baseline` and what sends people there. Pure. */
import type { FailedMigration } from "../errors.ts";
import {
  type DiagnosisWords,
  describeDiagnosis,
  describeFailed,
  type ResolutionWords,
  type ResolveErrorWords,
} from "./diagnosis.ts";
import { formatList } from "./format.ts";

export const koDiagnosis: DiagnosisWords = {
  verdicts: { applied: "적용됨", "not-applied": "적용되지 않음", unknown: "알 수 없음" },
  proposals: {
    applied: "제안: 적용됨으로 표시하십시오. 이 마이그레이션이 만드는 것이 데이터베이스에 있습니다.",
    "rolled-back":
      "제안: 되돌림으로 표시하십시오. 이 마이그레이션이 만드는 것이 데이터베이스에 없으므로 다시 실행할 수 있습니다.",
    restore: "제안: 실행 전의 백업을 복원하거나, 직접 되돌리거나 마저 적용하십시오. 일부만 남아 있을 수 있습니다.",
  },
  noStatements: "확인할 수 있는 문장이 없습니다.",
  noScript: "스크립트가 폴더에 없어 데이터베이스에 무엇이 남았는지 알 수 없습니다.",
  invalidIndex: (name) => `다시 실행하기 전에 삭제할 INVALID 인덱스: ${name}`,
};

export const koResolution: ResolutionWords = {
  applied: (number) => `적용됨으로 표시: ${number}건`,
  rolledBack: (number) => `되돌림으로 표시: ${number}건`,
  nothing: "표시할 것이 없습니다.",
  dryRun: "아무것도 기록하지 않았습니다 (--dry-run).",
};

/** What can be copied where it is the only one. */
function nameOf(migrations: readonly FailedMigration[]): string {
  const [only, ...others] = migrations;
  return only === undefined || others.length > 0 ? "<이름>" : only.name;
}

export const koResolveErrors: ResolveErrorWords = {
  HISTORY_FAILED: ({ migrations }) => ({
    summary: `실패한 마이그레이션 ${migrations.length}건`,
    details: migrations.flatMap((migration) => [
      `${migration.name} (시작: ${migration.startedAt})`,
      ...describeFailed(migration, koDiagnosis),
    ]),
    next: [
      `데이터베이스에 남은 것이 없다면: deploy resolve --rolled-back ${nameOf(migrations)}`,
      `모두 데이터베이스에 있다면: deploy resolve --applied ${nameOf(migrations)}`,
      `Prisma CLI도 같은 표시를 합니다: npx prisma migrate resolve --rolled-back|--applied ${nameOf(migrations)}`,
    ],
  }),
  BASELINE_NEEDED: ({ schema, tables, migrations }) => ({
    summary: `적용 이력 없이 테이블이 있는 데이터베이스 (스키마 ${schema}, 테이블 ${tables.length}개)`,
    details: formatList(tables),
    next: [
      "폴더의 마이그레이션이 이미 데이터베이스에 반영되어 있다면: deploy baseline",
      ...(migrations.length > 1 ? ["일부만 반영되어 있다면:"] : []),
      ...(migrations.length > 1 ? migrations.slice(0, 2).map((name) => `deploy resolve --applied ${name}`) : []),
    ],
  }),
  BASELINE_CONTRADICTED: ({ failed, rolledBack, deployed }) => ({
    summary: "기준선을 표시할 수 없는 적용 이력",
    details: [
      ...(failed.length > 0 ? [`실패한 마이그레이션: ${failed.length}건`, ...formatList(failed)] : []),
      ...(rolledBack.length > 0
        ? [`되돌림으로 표시된 마이그레이션: ${rolledBack.length}건`, ...formatList(rolledBack)]
        : []),
      ...(deployed.length > 0 ? [`배포가 적용한 마이그레이션: ${deployed.length}건`, ...formatList(deployed)] : []),
    ],
    next: ["deploy status", "한 건만 표시하려면: deploy resolve --applied <이름>"],
  }),
  RESOLVE_SCRIPT_NOT_FOUND: ({ migration }) => ({
    summary: `폴더에 없거나 migration.sql 파일이 없는 마이그레이션: ${migration}`,
    next: ["폴더의 전체 이름을 확인하십시오 (예: 20240102030405_init)."],
  }),
  RESOLVE_ALREADY_APPLIED: ({ migration }) => ({
    summary: `이미 적용됨으로 기록된 마이그레이션: ${migration}`,
    next: ["deploy status"],
  }),
  RESOLVE_NEVER_APPLIED: ({ migration }) => ({
    summary: `적용 이력에 없는 마이그레이션: ${migration}`,
    next: ["폴더의 전체 이름을 확인하십시오 (예: 20240102030405_init).", "deploy status"],
  }),
  RESOLVE_NOT_FAILED: ({ migration }) => ({
    summary: `실패 상태가 아닌 마이그레이션: ${migration}`,
    next: ["deploy status"],
  }),
  RESOLVE_CONTRADICTED: ({ choice, command, diagnoses }) => ({
    summary: `데이터베이스의 상태와 맞지 않는 선택: ${choice}, ${diagnoses.length}건`,
    details: diagnoses.flatMap((diagnosis) => [diagnosis.migration, ...describeDiagnosis(diagnosis, koDiagnosis)]),
    next: [
      ...diagnoses.slice(0, 1).map(({ migration, proposal }) => {
        if (command === "baseline") return "한 건만 표시하려면: deploy resolve --applied|--rolled-back <이름>";
        return proposal === "restore"
          ? "직접 되돌리거나 마저 적용한 뒤 같은 명령을 다시 실행하십시오."
          : `deploy resolve --${proposal} ${migration}`;
      }),
      "그래도 표시하려면: --force",
    ],
  }),
};
