/** Which advice an error of the server gets. That the server really says so is shown in tests/postgres/hints.test.ts. */
import { expect, test } from "bun:test";
import { chooseHint, hintLines } from "../lib/messages/hints.ts";
import { koHints } from "../lib/messages/hints-ko.ts";

const server = { sqlState: "00000", message: "", detail: undefined };

test("nothing is said where nothing better is known", () => {
  expect(chooseHint({ ...server, sqlState: "XX000" })).toBeUndefined();
  expect(hintLines({ ...server, sqlState: "XX000" }, koHints)).toEqual([]);
});

test("one SQLSTATE for many things is told apart in whatever language the server speaks", () => {
  const unsupported = { ...server, sqlState: "0A000", message: "확장을 사용할 수 없음" };
  const control = '"/usr/share/extension/postgis.control" 파일을 열 수 없음';
  expect(chooseHint({ ...unsupported, detail: control })).toBe("extension-unavailable");
  expect(chooseHint({ ...unsupported, routine: "parse_extension_control_file" })).toBe("extension-unavailable");
  expect(chooseHint({ ...unsupported, detail: '_RETURN 룰(해당 뷰: v)이 "a" 칼럼에 의존함' })).toBe(
    "dependent-objects",
  );
  expect(chooseHint(unsupported)).toBe("not-supported");
});

test("a byte order mark in the message is the reason of the syntax error", () => {
  const syntax = { ...server, sqlState: "42601", message: 'syntax error at or near "\uFEFFCREATE"' };
  expect(chooseHint(syntax)).toBe("byte-order-mark");
  expect(chooseHint({ ...syntax, message: 'syntax error at or near "CRATE"' })).toBe("syntax");
});

test("what can't be provoked in a test has its advice as well", () => {
  expect(chooseHint({ ...server, sqlState: "53100" })).toBe("disk-full");
});
