import { stripVTControlCharacters } from 'node:util';

/** The streams and settings of one invocation, handed in so that tests can watch them. */
export interface TerminalStreams {
  readonly stdin: NodeJS.ReadStream;
  readonly stdout: NodeJS.WriteStream;
  readonly stderr: NodeJS.WriteStream;
  readonly env: Readonly<Record<string, string | undefined>>;
}

export interface TerminalOptions {
  readonly json: boolean;
  readonly quiet: boolean;
}

/** The colours that Freehold uses, by meaning. */
export type Tone = 'strong' | 'faint' | 'good' | 'bad' | 'accent';

const SGR: Readonly<Record<Tone, readonly [number, number]>> = {
  strong: [1, 22],
  faint: [2, 22],
  good: [32, 39],
  bad: [31, 39],
  accent: [36, 39],
};

/**
 * Where a command speaks: results to stdout, everything else to stderr, so that `freehold … | other` gets results
 * only. With `--json` stdout carries one JSON document or NDJSON events.
 */
export class Terminal {
  readonly streams: TerminalStreams;
  readonly json: boolean;
  readonly quiet: boolean;

  constructor(streams: TerminalStreams, options: TerminalOptions) {
    this.streams = streams;
    this.json = options.json;
    this.quiet = options.quiet;
  }

  /** Colours stand for people at a terminal only (https://no-color.org). */
  paint(tone: Tone, text: string, stream: NodeJS.WriteStream = this.streams.stdout): string {
    const { NO_COLOR, TERM } = this.streams.env;
    if (!stream.isTTY || (NO_COLOR ?? '') !== '' || TERM === 'dumb') return text;
    const [on, off] = SGR[tone];
    return `\u001b[${on}m${text}\u001b[${off}m`;
  }

  /** The result of a command: `text` for people, `value` with --json. */
  result(value: unknown, text: string): void {
    if (this.json) this.streams.stdout.write(`${JSON.stringify(value)}\n`);
    else if (text !== '') this.streams.stdout.write(`${text}\n`);
  }

  /** One event of a longer command, as an NDJSON line; nothing without --json. */
  event(value: unknown): void {
    if (this.json) this.streams.stdout.write(`${JSON.stringify(value)}\n`);
  }

  /** A remark for people, on stderr; not with --quiet or --json. */
  note(text: string): void {
    if (!this.quiet && !this.json) this.streams.stderr.write(`${text}\n`);
  }

  get isInteractive(): boolean {
    return this.streams.stdin.isTTY === true && this.streams.stdout.isTTY === true && !this.json;
  }
}

/**
 * Text from a package, a model or a server, made harmless for a terminal: no escape sequences and no control
 * characters but newline and tab (a model must not retitle a window, write its clipboard or hide text).
 */
export function harmless(text: string): string {
  return withoutControls(stripVTControlCharacters(text).replace(/\r\n?/g, '\n'));
}

/**
 * A piece of a stream without the control characters that `harmless` removes. What stays of an escape sequence shows as
 * plain text, since a sequence may be spread over pieces.
 */
export function withoutControls(piece: string): string {
  return piece.replace(UNSAFE, '');
}

/** C0 without newline and tab, DEL, C1, and the bidirectional overrides of "Trojan Source" (CVE-2021-42574). */
const UNSAFE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g;

/** Columns padded to their widest cell; the header is faint, cells are made harmless. */
export function table(
  terminal: Terminal,
  header: readonly string[],
  rows: readonly (readonly string[])[],
): string {
  const shown = rows.map((row) => row.map(harmless));
  const widths = header.map((cell, column) =>
    Math.max(cell.length, ...shown.map((row) => (row[column] ?? '').length)),
  );
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, column) => (column === cells.length - 1 ? cell : cell.padEnd(widths[column] ?? 0)))
      .join('  ');
  return [terminal.paint('faint', line(header)), ...shown.map(line)].join('\n');
}

/** The first twelve hexadecimal digits: enough to tell the files of one machine apart by eye. */
export function shortDigest(digest: string): string {
  return digest.slice('sha256:'.length, 'sha256:'.length + 12);
}

/** `93.8 MiB`. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** `0:07`, `12:30`, `1:02:03`. */
export function formatDuration(durationMs: number): string {
  const seconds = Math.max(0, Math.round(durationMs / 1000));
  const parts = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60), seconds % 60];
  const shown = parts[0] === 0 ? parts.slice(1) : parts;
  return shown.map((part, index) => (index === 0 ? String(part) : String(part).padStart(2, '0'))).join(':');
}
