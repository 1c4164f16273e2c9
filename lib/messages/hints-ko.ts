/** Advice for errors of the server, in Korean. Pure. */
import type { HintKind } from "./hints.ts";

export const koHints: { readonly [K in HintKind]: readonly string[] } = {
  "not-null": [
    "기존 행에 값이 없습니다. 세 단계로 나누십시오: NULL을 허용하는 열 추가, UPDATE로 채우기, ALTER COLUMN ... SET NOT NULL",
    "또는 열을 추가할 때 DEFAULT 값을 지정하십시오.",
  ],
  "duplicate-key": [
    "같은 값을 가진 행이 있습니다. 유니크 인덱스나 제약 조건보다 먼저 중복을 정리하십시오.",
    "찾기: SELECT <열>, count(*) FROM <테이블> GROUP BY <열> HAVING count(*) > 1;",
  ],
  "foreign-key": [
    "가리키는 행이 없는 행, 또는 아직 참조되는 행이 있습니다. 먼저 고치거나 지우고, 부모 행은 자식 행보다 먼저 넣으십시오.",
    "큰 테이블이라면: ADD CONSTRAINT ... NOT VALID, 행을 고친 뒤 다음 마이그레이션에서 VALIDATE CONSTRAINT",
  ],
  check: [
    "조건에 맞지 않는 행이 있습니다. 먼저 행을 고치십시오.",
    "또는: ADD CONSTRAINT ... NOT VALID, 행을 고친 뒤 다음 마이그레이션에서 VALIDATE CONSTRAINT",
  ],
  "type-mismatch": [
    "자동으로 바꿀 수 없는 형식입니다. 변환식을 쓰십시오: ALTER COLUMN <열> TYPE <형식> USING <열>::<형식>",
    "DEFAULT가 있다면 먼저 DROP DEFAULT, 형식을 바꾼 뒤 다시 SET DEFAULT 하십시오.",
  ],
  "value-not-castable": [
    "새 형식으로 바꿀 수 없는 값이 있습니다. 먼저 그 값을 고치거나 USING 식에서 CASE로 처리하십시오.",
    "enum 값이라면 ALTER TYPE ... ADD VALUE 마이그레이션이 먼저 있어야 합니다.",
  ],
  "value-too-long": [
    "새 길이보다 긴 값이 있습니다. 값을 줄이거나 열의 길이를 늘리십시오.",
    "찾기: SELECT * FROM <테이블> WHERE length(<열>) > <길이>;",
  ],
  "value-out-of-range": [
    "형식의 범위를 벗어나는 값이 있습니다. 더 큰 형식(예: bigint, numeric)을 쓰거나 값을 고치십시오.",
  ],
  "dependent-objects": [
    "다른 객체가 의존하고 있습니다. DETAIL에 있는 객체(뷰, 외래 키, 정책 등)를 먼저 지우고, 바꾼 뒤 같은 마이그레이션에서 다시 만드십시오.",
    "CASCADE는 그 객체들도 지우며 다시 만들지 않습니다.",
  ],
  permission: [
    "역할의 권한이 부족합니다. ALTER, DROP 문은 소유자만 실행할 수 있고 CREATE 문에는 스키마의 CREATE 권한이 필요합니다.",
    "스키마 권한: GRANT CREATE ON SCHEMA public TO <역할>; (PostgreSQL 15부터는 기본으로 주어지지 않습니다)",
  ],
  "lock-timeout": [
    "다른 클라이언트가 테이블을 잡고 있습니다. 위에 표시된 세션의 트랜잭션이 끝난 뒤 다시 배포하십시오.",
    "더 오래 시도하려면: --lock-retry 30m, 한 번에 더 오래 기다리려면: --lock-timeout 10s",
  ],
  deadlock: [
    "다른 세션과 충돌해 서버가 취소했습니다. 다시 배포하십시오.",
    "반복되면 쓰기가 적은 시간에 배포하거나, 여러 테이블을 잠그는 마이그레이션을 나누십시오.",
  ],
  "disk-full": [
    "서버의 디스크가 가득 찼습니다. 공간을 확보한 뒤 다시 배포하십시오.",
    "테이블을 다시 쓰는 ALTER TABLE이나 인덱스 생성에는 그 크기만큼의 공간이 더 필요합니다.",
  ],
  "out-of-memory": [
    '"out of shared memory"라면 한 트랜잭션의 잠금이 너무 많습니다. 마이그레이션을 나누거나, 서버의 max_locks_per_transaction 값을 늘리고 다시 시작하십시오.',
    '"out of memory"라면 서버의 메모리와 work_mem, maintenance_work_mem 값을 확인하십시오.',
  ],
  "extension-unavailable": [
    "확장의 파일이 서버에 없습니다. 확장이 들어 있는 이미지나 패키지로 서버를 실행하십시오 (관리형 서비스라면 허용 목록 확인).",
    "설치할 수 있는 확장: SELECT name, default_version FROM pg_available_extensions;",
  ],
  "not-supported": ["서버의 버전이나 설정이 지원하지 않는 문장입니다. 서버의 버전을 확인하십시오: SELECT version();"],
  "already-exists": [
    "이미 있는 이름입니다. 예전 배포가 일부만 적용되었거나, 마이그레이션 밖에서 만들어졌습니다(드리프트).",
    "마이그레이션 전체가 이미 반영되어 있다면: deploy resolve --applied <이름>",
  ],
  "does-not-exist": [
    '없는 이름입니다. 만드는 마이그레이션이 먼저 적용되는지, 대소문자와 큰따옴표가 맞는지 확인하십시오 ("User"와 user는 다릅니다).',
    "다른 스키마에 있다면 이름에 스키마를 붙이거나 연결 문자열의 ?schema= 값을 확인하십시오.",
  ],
  "function-missing": [
    "없는 함수나 연산자이거나 인자의 형식이 다릅니다. 확장의 함수라면 먼저 CREATE EXTENSION 문을 실행하십시오 (예: uuid-ossp의 uuid_generate_v4).",
    "확장이 다른 스키마에 있다면 함수 이름에 스키마를 붙이십시오.",
  ],
  "schema-missing": [
    "스키마가 없습니다. 마이그레이션에서 먼저 CREATE SCHEMA 하거나 연결 문자열의 ?schema= 값을 확인하십시오.",
  ],
  "in-transaction": [
    "트랜잭션 안에서 실행할 수 없는 문장입니다. 파일에서 BEGIN과 COMMIT을 지우고, 이 문장만 담은 마이그레이션으로 나누십시오.",
  ],
  "enum-value": [
    "새 enum 값은 커밋된 뒤에야 쓸 수 있습니다. 값을 추가하는 마이그레이션과 쓰는 마이그레이션을 나누고 BEGIN과 COMMIT을 지우십시오.",
  ],
  cancelled: [
    "문장이 시간 제한을 넘었거나 다른 사람이 취소했습니다.",
    "제한: --statement-timeout, 또는 스크립트 안의 SET statement_timeout",
  ],
  syntax: ["표시된 위치의 문법을 확인하십시오. 더 새로운 PostgreSQL의 문법일 수도 있습니다."],
  "byte-order-mark": ["파일에 BOM(U+FEFF)이 들어 있습니다. BOM 없는 UTF-8로 저장하십시오."],
};
