/** Korean for backups. Pure. */
import type { BackupWords } from "./backups.ts";

export const koBackups: BackupWords = {
  headings: {
    file: "파일",
    database: "데이터베이스",
    taken: "시각 (UTC)",
    size: "크기",
    format: "형식",
    state: "상태",
    precedes: "이후 마이그레이션",
    expiry: "삭제 예정",
  },
  none: (directory) => `백업이 없습니다: ${directory}`,
  total: (count, size) => `백업 ${count}개, 합계 ${size}`,
  states: {
    present: (verified) => `검증됨 ${verified}`,
    "dump-missing": () => "파일 없음",
    "size-differs": () => "크기 다름",
    damaged: () => "손상됨",
  },
  precedes: (first, more) => (more === 0 ? first : `${first} 외 ${more}건`),
  expiry: {
    due: "다음 정리 때",
    after: (days) => `${days}일 뒤`,
    kept: "최소 보관",
    needed: "실패한 배포에 필요",
  },
  good: (path) => `✅ 정상: ${path}`,
  bad: (path) => `❌ 손상: ${path}`,
  content: (tables, rows, largeObjects) =>
    `테이블 ${tables}개, ${rows}행${largeObjects === 0 ? "" : `, large object ${largeObjects}개`}`,
  checked: {
    structure: "첫 줄부터 끝 표시까지 모든 문장과 행을 읽었고, 끝 표시 뒤에는 아무것도 없습니다.",
    blocks: "모든 블록의 압축을 풀었습니다.",
    checksum: "크기와 SHA-256이 매니페스트와 같습니다.",
  },
  noManifest: "매니페스트가 없어 체크섬은 비교하지 못했습니다. 행의 내용이 바뀌었다면 알 수 없습니다.",
  deleted: (count, kept) => `삭제 ${count}개, 보관 ${kept}개`,
  wouldDelete: (count, kept) => `삭제할 것 ${count}개, 보관할 것 ${kept}개 (--dry-run: 아무것도 지우지 않았습니다)`,
};
