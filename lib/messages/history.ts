/** The words for past deploys. Pure. */
import type { PastDeploy } from "../journal/history.ts";

export interface HistoryWords {
  readonly headings: {
    readonly database: string;
    readonly begun: string;
    readonly duration: string;
    readonly outcome: string;
    readonly migrations: string;
    readonly backup: string;
    readonly failure: string;
  };
  readonly none: (directory: string) => string;
  readonly outcomes: { readonly [O in PastDeploy["outcome"]]: string };
  /** It was killed, and its end was found later. */
  readonly interrupted: string;
  /** The first of them, and how many more there are. */
  readonly migrations: (first: string, more: number) => string;
}

export const enHistory: HistoryWords = {
  headings: {
    database: "Database",
    begun: "Begun (UTC)",
    duration: "Took",
    outcome: "Outcome (exit code)",
    migrations: "Migrations",
    backup: "Backup",
    failure: "Failure",
  },
  none: (directory) => `No deploys in the journal: ${directory}`,
  outcomes: {
    deployed: "deployed",
    "rolled-back": "rolled back",
    restored: "restored",
    "at-boundary": "at a boundary",
    unresolved: "needs a person",
    stopped: "stopped",
    open: "open",
  },
  interrupted: "interrupted",
  migrations: (first, more) => (more === 0 ? first : `${first} (+${more})`),
};

export const koHistory: HistoryWords = {
  headings: {
    database: "데이터베이스",
    begun: "시작 (UTC)",
    duration: "소요",
    outcome: "결과 (종료 코드)",
    migrations: "마이그레이션",
    backup: "백업",
    failure: "실패",
  },
  none: (directory) => `저널에 배포가 없습니다: ${directory}`,
  outcomes: {
    deployed: "배포됨",
    "rolled-back": "취소됨",
    restored: "복원됨",
    "at-boundary": "경계에서 멈춤",
    unresolved: "사람이 확인해야 함",
    stopped: "시작 전 중단",
    open: "끝나지 않음",
  },
  interrupted: "중단되었던 배포",
  migrations: (first, more) => (more === 0 ? first : `${first} 외 ${more}건`),
};
