import { isMet, type Row, type Spread, type Wanted } from './benchmark.ts';

/** What one benchmark writes into the page. */
export interface Section {
  readonly name: string;
  readonly title: string;
  readonly how: string;
  /** Date, machine, load. */
  readonly moment: string;
  readonly rows: readonly Row[];
}

const begin = (name: string) => `<!-- measured: ${name} -->`;
const END = '<!-- end measured -->';

/**
 * Puts a section between its markers; everything else on the page stays as somebody wrote it. A section that is not
 * there yet comes behind the last one, or to the end of the page.
 */
export function withSection(page: string, section: Section): string {
  const text = `${begin(section.name)}\n\n${sectionText(section)}\n\n${END}`;
  const from = page.indexOf(begin(section.name));
  if (from >= 0) {
    const to = page.indexOf(END, from);
    if (to < 0) throw new Error(`${begin(section.name)} has no ${END} behind it`);
    return page.slice(0, from) + text + page.slice(to + END.length);
  }
  const last = page.lastIndexOf(END);
  const at = last < 0 ? page.trimEnd().length : last + END.length;
  return `${page.slice(0, at)}\n\n${text}\n${page.slice(at).replace(/^\n/, '')}`;
}

function sectionText({ title, how, moment, rows }: Section): string {
  return [
    `## ${title}`,
    '',
    how,
    '',
    '| what | Freehold | peer | ratio: median (least – most) | wanted | CPU seconds: Freehold / peer |',
    '|---|---|---|---|---|---|',
    ...rows.map(rowText),
    '',
    `${moment}.`,
  ].join('\n');
}

function rowText({ what, ours, peer, ratio, wanted, cpuSeconds }: Row): string {
  const cells = [
    what,
    ours,
    peer,
    ratio === undefined ? '–' : spreadText(ratio),
    wanted === undefined ? '–' : wantedText(wanted, ratio),
    cpuSeconds ?? '–',
  ];
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
}

export function spreadText({ median, least, most }: Spread): string {
  return `${median.toFixed(2)} (${least.toFixed(2)} – ${most.toFixed(2)})`;
}

function wantedText(wanted: Wanted, ratio: Spread | undefined): string {
  const text = `${wanted.kind === 'at-least' ? '≥' : '≤'} ${wanted.value}`;
  if (ratio === undefined) return text;
  return isMet(ratio, wanted) ? text : `${text}: **not met**`;
}
