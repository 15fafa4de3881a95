import type { Progress } from '../../core/base/progress.ts';

/** Turns a count of bytes into `bytes-moved` events, not more often than a reader can use. */
export interface ByteMeter {
  /** Begins a run of one source; `resumedBytes` lay on disk already. */
  begin(resumedBytes: number): void;
  /** Absolute. Never goes back within a run, so that an estimate may be reported before the exact count. */
  report(doneBytes: number): void;
  /** Reports what the interval held back. */
  flush(): void;
}

export function byteMeter(
  progress: Progress,
  label: string,
  totalBytes: number,
  intervalMs: number,
): ByteMeter {
  let resumedBytes = 0;
  let doneBytes = 0;
  let reportedBytes = -1;
  let reportedMs = Number.NEGATIVE_INFINITY;
  const emit = () => {
    if (doneBytes === reportedBytes) return;
    reportedBytes = doneBytes;
    reportedMs = performance.now();
    progress({ kind: 'bytes-moved', label, doneBytes, totalBytes, resumedBytes });
  };
  return {
    begin(resumed) {
      resumedBytes = resumed;
      doneBytes = resumed;
      reportedBytes = -1;
    },
    report(done) {
      doneBytes = Math.min(totalBytes, Math.max(doneBytes, done));
      if (performance.now() - reportedMs >= intervalMs) emit();
    },
    flush: emit,
  };
}
