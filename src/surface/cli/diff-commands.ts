import type { Command } from 'commander';
import type { PackageDiff } from '../app/diff-packages.ts';
import type { AddAction } from './program.ts';
import { formatBytes, harmless, type Terminal } from './terminal.ts';

/** Lines of one section; --json has them all. */
const LINES_SHOWN_MAX = 40;
/** A template is often one line of thousands of characters. */
const LINE_CHARACTERS_MAX = 400;

/** `diff`. */
export function registerDiffCommands(program: Command, add: AddAction): void {
  add(
    program
      .command('diff')
      .argument('<before>', 'an installed package: NAME@VERSION[#VARIANT]')
      .argument('<after>', 'another one, usually a later version')
      .description('what changed between two packages, down to the tensors, and how much an update fetches'),
    async ({ freehold, terminal, progress, signal }, [before = '', after = '']) => {
      const { diffPackages } = await import('../app/diff-packages.ts');
      const difference = await diffPackages(freehold, before, after, signal);
      progress.clear();
      terminal.result(difference, differenceText(terminal, difference));
      return 0;
    },
  );
}

function differenceText(terminal: Terminal, difference: PackageDiff): string {
  const { before, after, updateBytes, wholeBytes } = difference;
  const share = wholeBytes === 0 ? 0 : (updateBytes / wholeBytes) * 100;
  const sections: [string, readonly string[]][] = [
    ['files', difference.files.map(fileLine)],
    ['description', difference.descriptor.map(valueLine)],
    ['metadata', difference.metadata.map(valueLine)],
    ['tokenizer', tokenLines(difference)],
    ['chat template', difference.chatTemplate.map(({ kind, text }) => `${MARK[kind]} ${text}`)],
    ['tensors', difference.tensors.map(tensorLine)],
  ];
  const changed = sections.filter(([, lines]) => lines.length > 0);
  return [
    terminal.paint('strong', `${before} → ${after}`),
    ...changed.flatMap(([title, lines]) => ['', terminal.paint('strong', title), ...shown(terminal, lines)]),
    ...(changed.length === 0 ? ['the same content'] : []),
    '',
    `${difference.sameTensors} tensors (${formatBytes(difference.sameTensorBytes)}) are the same`,
    `an update fetches ${formatBytes(updateBytes)} of ${formatBytes(wholeBytes)} (${share < 10 ? share.toFixed(1) : Math.round(share)} %)`,
  ].join('\n');
}

const MARK = { same: ' ', added: '+', removed: '-', changed: '~' } as const;

function shown(terminal: Terminal, lines: readonly string[]): string[] {
  const cut = lines.slice(0, LINES_SHOWN_MAX).map((line) => {
    const text = harmless(line).replaceAll('\n', '⏎');
    const short = text.length > LINE_CHARACTERS_MAX ? `${text.slice(0, LINE_CHARACTERS_MAX)}…` : text;
    const tone = short.startsWith('+') ? 'good' : short.startsWith('-') ? 'bad' : undefined;
    return `  ${tone === undefined ? short : terminal.paint(tone, short)}`;
  });
  const more = lines.length - cut.length;
  return more > 0 ? [...cut, `  … and ${more} more; --json has them all`] : cut;
}

function fileLine({ path, kind, beforeBytes, afterBytes }: PackageDiff['files'][number]): string {
  const sizes = [beforeBytes, afterBytes].filter((bytes) => bytes !== undefined).map(formatBytes);
  return `${MARK[kind]} ${path}  ${sizes.join(' → ')}`;
}

function valueLine({ key, before, after }: PackageDiff['metadata'][number]): string {
  if (before === undefined) return `+ ${key}: ${after ?? ''}`;
  if (after === undefined) return `- ${key}: ${before}`;
  return `~ ${key}: ${before} → ${after}`;
}

function tokenLines({ tokens }: PackageDiff): string[] {
  if (tokens === undefined) return [];
  const { beforeTokens, afterTokens, changedTokens, examples } = tokens;
  const size =
    beforeTokens === afterTokens ? `${afterTokens} tokens` : `${beforeTokens} → ${afterTokens} tokens`;
  return [
    `~ ${size}, ${changedTokens} of them changed`,
    ...examples.map(
      ({ id, before, after }) =>
        `    ${id}: ${before === undefined ? 'none' : JSON.stringify(before)} → ${after === undefined ? 'none' : JSON.stringify(after)}`,
    ),
  ];
}

function tensorLine({ name, kind, before, after, sizeBytes }: PackageDiff['tensors'][number]): string {
  const shapes =
    before === after ? (after ?? '') : [before, after].filter((shape) => shape !== undefined).join(' → ');
  return `${MARK[kind]} ${name}  ${shapes}  ${formatBytes(sizeBytes)}`;
}
