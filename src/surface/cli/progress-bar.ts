import type { Progress, ProgressEvent } from '../../core/base/progress.ts';
import { formatBytes, formatDuration, harmless, type Terminal } from './terminal.ts';

/** A bar that moves more often than this is only flicker. */
const REDRAW_INTERVAL_MS = 100;
/** Without a terminal, a line this often tells a log that work goes on. */
const LINE_INTERVAL_MS = 10_000;
/** Rate is averaged over about this long, so that it neither jumps nor lags. */
const RATE_WINDOW_MS = 3_000;
const BAR_COLUMNS = 24;

interface Sample {
  readonly atMs: number;
  readonly bytes: number;
}

/**
 * Shows progress on stderr: a bar with rate and remaining time on a terminal, plain lines otherwise, NDJSON events on
 * stdout with --json, nothing with --quiet.
 */
export class ProgressBar {
  readonly #terminal: Terminal;
  readonly #nowMs: () => number;
  #samples: Sample[] = [];
  #label = '';
  #drawnAtMs = Number.NEGATIVE_INFINITY;
  #isBarShown = false;

  constructor(terminal: Terminal, nowMs: () => number) {
    this.#terminal = terminal;
    this.#nowMs = nowMs;
  }

  readonly listen: Progress = (event) => {
    if (this.#terminal.quiet) return;
    if (this.#terminal.json) this.#terminal.event(event);
    else this.#show(event);
  };

  /** Removes a bar that is shown, so that other text can follow. */
  clear(): void {
    if (this.#isBarShown) this.#terminal.streams.stderr.write('\r\u001b[2K');
    this.#isBarShown = false;
  }

  #show(event: ProgressEvent): void {
    switch (event.kind) {
      case 'bytes-moved':
        this.#showBytes(event);
        return;
      case 'source-tried':
        this.#line(`${event.label}: from ${harmless(event.source)}`);
        return;
      case 'source-failed':
        this.#line(`${event.label}: ${harmless(event.source)} failed: ${harmless(event.reason)}`);
        return;
      case 'step-started':
        this.#line(event.label);
        return;
      case 'step-finished':
        this.clear();
        return;
      default:
        event satisfies never;
    }
  }

  #line(text: string): void {
    this.clear();
    this.#terminal.note(this.#terminal.paint('faint', text, this.#terminal.streams.stderr));
  }

  #showBytes(event: Extract<ProgressEvent, { kind: 'bytes-moved' }>): void {
    const atMs = this.#nowMs();
    if (event.label !== this.#label) {
      this.clear();
      this.#label = event.label;
      this.#samples = [];
      this.#drawnAtMs = Number.NEGATIVE_INFINITY;
    }
    this.#samples.push({ atMs, bytes: event.doneBytes });
    while (this.#samples.length > 2 && atMs - (this.#samples[0]?.atMs ?? atMs) > RATE_WINDOW_MS)
      this.#samples.shift();
    const isTerminal = this.#terminal.streams.stderr.isTTY === true;
    const isDone = event.doneBytes >= event.totalBytes;
    if (!isDone && atMs - this.#drawnAtMs < (isTerminal ? REDRAW_INTERVAL_MS : LINE_INTERVAL_MS)) return;
    this.#drawnAtMs = atMs;
    const text = progressText(event, this.#bytesPerSecond());
    if (isTerminal) {
      const columns = this.#terminal.streams.stderr.columns ?? 80;
      this.#terminal.streams.stderr.write(`\r\u001b[2K${text.slice(0, columns - 1)}${isDone ? '\n' : ''}`);
      this.#isBarShown = !isDone;
    } else {
      this.#terminal.note(text);
    }
    if (isDone) this.#label = '';
  }

  #bytesPerSecond(): number {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    if (first === undefined || last === undefined || last.atMs <= first.atMs) return 0;
    return ((last.bytes - first.bytes) * 1000) / (last.atMs - first.atMs);
  }
}

/** One line: label, bar, bytes, rate, remaining time. */
export function progressText(
  event: { label: string; doneBytes: number; totalBytes: number; resumedBytes?: number },
  bytesPerSecond: number,
): string {
  const share = event.totalBytes === 0 ? 1 : Math.min(1, event.doneBytes / event.totalBytes);
  const filled = Math.round(share * BAR_COLUMNS);
  const parts = [
    harmless(event.label),
    `${'█'.repeat(filled)}${'░'.repeat(BAR_COLUMNS - filled)}`,
    `${Math.floor(share * 100)} %`,
    `${formatBytes(event.doneBytes)} of ${formatBytes(event.totalBytes)}`,
  ];
  if (bytesPerSecond > 0) {
    parts.push(`${formatBytes(bytesPerSecond)}/s`);
    if (share < 1)
      parts.push(`${formatDuration(((event.totalBytes - event.doneBytes) / bytesPerSecond) * 1000)} left`);
  }
  if ((event.resumedBytes ?? 0) > 0) parts.push(`resumed at ${formatBytes(event.resumedBytes ?? 0)}`);
  return parts.join('  ');
}
