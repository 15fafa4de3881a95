// Draws what a terminal shows as an SVG: node scripts/terminal-picture.ts TITLE < CAPTURE > PICTURE.svg
// CAPTURE is the raw output of a command on a terminal (`script -qec "COMMAND" /dev/null`).
import { text } from 'node:stream/consumers';

const COLUMNS = 100;
const CHARACTER_WIDTH = 8.4;
const LINE_HEIGHT = 19;
const MARGIN = 20;
const TITLE_HEIGHT = 34;

type Style = 'plain' | 'strong' | 'faint' | 'good' | 'bad' | 'accent';

const STYLE_OF_CODE: Readonly<Record<string, Style>> = {
  '1': 'strong',
  '2': 'faint',
  '31': 'bad',
  '32': 'good',
  '36': 'accent',
  '22': 'plain',
  '39': 'plain',
  '0': 'plain',
};
const COLOUR: Readonly<Record<Style, string>> = {
  plain: '#d8dee9',
  strong: '#ffffff',
  faint: '#8a94a6',
  good: '#8fd18f',
  bad: '#f08080',
  accent: '#7fc8e8',
};

interface Run {
  text: string;
  readonly style: Style;
}

/** The lines that are left on the screen at the end: a carriage return with "erase line" starts the line anew. */
function screenLines(capture: string): Run[][] {
  const lines: Run[][] = [[]];
  let style: Style = 'plain';
  for (const part of capture.match(/\u001b\[[0-9;?]*[A-Za-z]|\r\n|\n|\r|[^\u001b\r\n]+/g) ?? []) {
    if (part === '\n' || part === '\r\n') lines.push([]);
    else if (part === '\r' || part.endsWith('K')) lines[lines.length - 1] = [];
    else if (part.endsWith('m')) style = STYLE_OF_CODE[part.slice(2, -1)] ?? style;
    else if (!part.startsWith('\u001b')) lines.at(-1)?.push({ text: part, style });
  }
  return lines;
}

/** Breaks lines where a terminal of this width breaks them. */
function wrapped(lines: Run[][]): Run[][] {
  return lines.flatMap((runs) => {
    const rows: Run[][] = [[]];
    let column = 0;
    for (const { text: content, style } of runs) {
      for (const character of content) {
        if (column === COLUMNS) {
          rows.push([]);
          column = 0;
        }
        const row = rows.at(-1) ?? [];
        const last = row.at(-1);
        if (last?.style === style) last.text += character;
        else row.push({ text: character, style });
        column++;
      }
    }
    return rows;
  });
}

function escaped(content: string): string {
  return content.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

function picture(title: string, rows: Run[][]): string {
  const width = COLUMNS * CHARACTER_WIDTH + 2 * MARGIN;
  const height = TITLE_HEIGHT + rows.length * LINE_HEIGHT + MARGIN;
  const texts = rows.map((row, index) => {
    const y = TITLE_HEIGHT + (index + 1) * LINE_HEIGHT;
    const spans = row.map(
      ({ text: content, style }) => `<tspan fill="${COLOUR[style]}">${escaped(content)}</tspan>`,
    );
    return `<text x="${MARGIN}" y="${y}">${spans.join('')}</text>`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img">`,
    `<title>${escaped(title)}</title>`,
    `<rect width="${width}" height="${height}" rx="8" fill="#1d222b"/>`,
    `<text x="${width / 2}" y="22" text-anchor="middle" fill="#8a94a6" font-family="sans-serif" font-size="13">${escaped(title)}</text>`,
    `<g font-family="ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace" font-size="14" xml:space="preserve">`,
    ...texts,
    '</g></svg>',
    '',
  ].join('\n');
}

const lines = screenLines(await text(process.stdin));
while (lines.at(-1)?.every((run) => run.text.trim() === '')) lines.pop();
process.stdout.write(picture(process.argv[2] ?? 'freehold', wrapped(lines)));
