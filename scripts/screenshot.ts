#!/usr/bin/env -S bun --no-env-file
/**
 * Makes the pictures of the READMEs again: runs the demo and draws what it has printed as an SVG, with the temporary
 * folders cut off and nothing else changed.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { displayWidth } from "../lib/system/text.ts";

const ROOT = join(import.meta.dirname, "..");
const FOLDER = join(ROOT, "docs", "images");
const LANGUAGES = ["en", "ko"] as const;
const TITLES = { en: "Two starts in a terminal", ko: "터미널에서 두 번의 시작" };
/** The second start and the migration that fails. */
const FIRST_STEP = 2;
const LAST_STEP = 3;
const FONT_SIZE = 14;
const LINE_HEIGHT = 20;
const COLUMN_WIDTH = 8.4;
const MARGIN = 20;
const BAR_HEIGHT = 36;
const COLUMNS_MAX = 108;

mkdirSync(FOLDER, { recursive: true });
for (const language of LANGUAGES) {
  const lines = selectSteps(await runDemo(language)).flatMap(wrap);
  writeFileSync(join(FOLDER, `terminal.${language}.svg`), draw(lines, TITLES[language]));
}

async function runDemo(language: string): Promise<string> {
  const demo = Bun.spawn([process.execPath, "--no-env-file", "scripts/demo.ts", "--lang", language], {
    cwd: ROOT,
    env: { ...process.env, NO_COLOR: "1", FORCE_COLOR: "0" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  // Both streams in the order in which they are written can only be had through one of them.
  const [output, log] = await Promise.all([new Response(demo.stdout).text(), new Response(demo.stderr).text()]);
  if ((await demo.exited) !== 0) throw new Error(`the demo has failed:\n${output}\n${log}`);
  return interleave(output, log);
}

/** The demo prints a step's command, the deploy its log, the app its line: each step's log follows its command. */
function interleave(output: string, log: string): string {
  const runs = log.split(/(?=^🚀 (?:Starting the safe|고도화된))/mu).filter((run) => run.trim() !== "");
  return output
    .split("\n")
    .flatMap((line) => (line.startsWith("$ ") && line.includes("deploy.ts") ? [line, runs.shift() ?? ""] : [line]))
    .join("\n");
}

function selectSteps(text: string): string[] {
  const steps = text.split(/^(?=── )/mu).filter((step) => step.startsWith("── "));
  return steps
    .slice(FIRST_STEP, LAST_STEP + 1)
    .join("\n")
    .replaceAll(/\/\S*\/psd-\w+\/\w+\//gu, "…/")
    .replaceAll(/\n{2,}/gu, "\n\n")
    .trim()
    .split("\n");
}

function wrap(line: string): string[] {
  if (displayWidth(line) <= COLUMNS_MAX) return [line];
  const indent = " ".repeat(line.length - line.trimStart().length + 2);
  const lines = [""];
  for (const word of line.split(/(?<= )/u)) {
    const last = lines.at(-1) ?? "";
    if (displayWidth(last + word) <= COLUMNS_MAX) lines[lines.length - 1] = last + word;
    else lines.push(indent + word);
  }
  return lines;
}

function draw(lines: readonly string[], title: string): string {
  const width = Math.ceil(COLUMNS_MAX * COLUMN_WIDTH + 2 * MARGIN);
  const height = BAR_HEIGHT + lines.length * LINE_HEIGHT + 2 * MARGIN;
  const texts = lines.map((line, index) => {
    const y = BAR_HEIGHT + MARGIN + (index + 0.75) * LINE_HEIGHT;
    return `<text x="${MARGIN}" y="${y}" fill="${colourOf(line)}" xml:space="preserve">${escapeText(line)}</text>`;
  });
  const dots = ["#ff5f57", "#febc2e", "#28c840"].map(
    (colour, index) => `<circle cx="${MARGIN + index * 20}" cy="${BAR_HEIGHT / 2 + 4}" r="6" fill="${colour}"/>`,
  );
  const font = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'Noto Sans Mono CJK KR', monospace";
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">`,
    `<title>${title}</title>`,
    `<rect width="${width}" height="${height}" rx="8" fill="#0d1117"/>`,
    ...dots,
    `<g font-family="${font}" font-size="${FONT_SIZE}">`,
    ...texts,
    "</g>",
    "</svg>",
    "",
  ].join("\n");
}

function colourOf(line: string): string {
  if (line.startsWith("── ")) return "#79c0ff";
  if (line.startsWith("$ ")) return "#8b949e";
  if (line.startsWith("❌")) return "#ff7b72";
  if (/^(?:✅|↩️)/u.test(line)) return "#7ee787";
  return "#e6edf3";
}

function escapeText(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}
