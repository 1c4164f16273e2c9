/** Where the setting stands that an older server does not know, and where only a row looks like it. */
import { expect, test } from "bun:test";
import { makeGuard } from "../lib/backup/guard.ts";
import { findUnknownSetting, UNKNOWN_SETTING, writesUnknownSetting } from "../lib/backup/unknown-setting.ts";

const TITLE = "--\n-- PostgreSQL database dump\n--\n\n";
const RESTRICT = "\\restrict iNfjUDeiygKmPg3iONvokAS9dZog8H9Hv6tpUWAsoL91bpjRpn3det6wSccdyH8\n\n";
const VERSIONS = "-- Dumped from database version 16.14\n-- Dumped by pg_dump version 18.6\n\n";
const SETTINGS = "SET statement_timeout = 0;\nSET lock_timeout = 0;\nSET idle_in_transaction_session_timeout = 0;\n";
const REST = "SET client_encoding = 'UTF8';\nSET standard_conforming_strings = on;\n";
const ROW = `CREATE TABLE public.t (\n    a text\n);\n\nCOPY public.t (a) FROM stdin;\n${UNKNOWN_SETTING}\n\\.\n`;

test.each([
  ["a plain dump", `${TITLE}${VERSIONS}${SETTINGS}`],
  ["one with a key", `${TITLE}${RESTRICT}${VERSIONS}${SETTINGS}`],
  ["one of ours, behind its guard", `${makeGuard("a.sql")}${TITLE}${RESTRICT}${VERSIONS}${SETTINGS}`],
  ["an archive as one transaction", `${TITLE}${RESTRICT}${VERSIONS}BEGIN;\n\n${SETTINGS}`],
])("it is found in %s, before the row", (_, before) => {
  const dump = Buffer.from(`${before}${UNKNOWN_SETTING}\n${REST}${ROW}`);
  expect(findUnknownSetting(dump)).toBe(Buffer.byteLength(before));
});

test.each([
  ["an older pg_dump's", `${TITLE}${VERSIONS}${SETTINGS}${REST}${ROW}`],
  ["no dump at all", `${SETTINGS}${UNKNOWN_SETTING}\n`],
  ["a head that is cut before it", `${TITLE}${VERSIONS}${SETTINGS}${UNKNOWN_SETTING.slice(0, -1)}`],
])("it is not in %s", (_, dump) => {
  expect(findUnknownSetting(Buffer.from(dump))).toBeUndefined();
});

test.each([
  [17, 16, true],
  [18, 13, true],
  [18, 17, false],
  [17, 17, false],
  [16, 15, false],
])("a tool of %d for a server of %d: %p", (tool, server, isWritten) => {
  expect(writesUnknownSetting(tool, server)).toBe(isWritten);
});
