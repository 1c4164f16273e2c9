/** Korean words of the health check. */
import type { HealthMessages } from "./health-messages.ts";

export const healthKo: HealthMessages = {
  healthy: "정상",
  unhealthy: "비정상",
  steps: {
    connect: "연결",
    lock: "배포 잠금 대기",
    prepare: "사전 점검",
    backup: "백업",
    migrate: "마이그레이션",
    restore: "복원",
    prune: "백업 정리",
    finish: "마무리",
  },
  deploying: (step, duration) => `배포 중: ${step} (${duration})`,
  stale: (duration) => `배포 응답 없음 (${duration})`,
  noDeploy: "진행 중인 배포 없음 (--url 미설정)",
  databaseAnswers: (duration) => `데이터베이스 응답 ${duration}`,
  fenced: "읽기 전용: --maintenance 배포가 진행 중이거나 중단됨",
  applied: (count) => `마이그레이션 ${count}건 적용됨`,
  pending: (count) => `적용 대기 ${count}건`,
  failed: (count) => `실패한 마이그레이션 ${count}건`,
  running: (count) => `실행 중인 마이그레이션 ${count}건`,
  lockHeld: "(다른 배포 진행 중)",
  mayNotRead: (user) => `_prisma_migrations 읽기 권한 없음: GRANT SELECT ON _prisma_migrations TO ${user}`,
  timeout: (duration) => `${duration} 안에 응답 없음`,
  closed: "응답 없이 연결 종료",
  notHttp: "HTTP 응답이 아님",
  url: "URL",
  bug: "프로그램 오류",
  help: {
    usage: "사용법: health-check [플래그]",
    about:
      "기본: 트래픽을 받을 준비가 되었는지 (데이터베이스, 마이그레이션, --url). --live: 살아 있는지 (데이터베이스 제외).",
    settings: "설정:",
    default: "기본값",
    exitCodes: "종료 코드: 0 정상, 1 비정상 (설정 오류 포함)",
  },
};
