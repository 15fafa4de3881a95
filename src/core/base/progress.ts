/** What long work tells its caller. Events are noun-action; byte counts are absolute, so a lost event loses nothing. */
export type ProgressEvent =
  | { readonly kind: 'source-tried'; readonly label: string; readonly source: string }
  | {
      readonly kind: 'source-failed';
      readonly label: string;
      readonly source: string;
      readonly reason: string;
    }
  | {
      readonly kind: 'bytes-moved';
      readonly label: string;
      readonly doneBytes: number;
      readonly totalBytes: number;
      /** Of `doneBytes`, those that lay on disk already when this run began (resume): they do not count as speed. */
      readonly resumedBytes?: number;
    }
  | { readonly kind: 'step-started'; readonly label: string }
  | { readonly kind: 'step-finished'; readonly label: string };

export type Progress = (event: ProgressEvent) => void;

export const silentProgress: Progress = () => {};
