import type { PutBlobOptions } from '../../core/format/artifact-place.ts';

/** Bytes of a blob that are in the repository, for whoever shows them. Never goes back, also when an upload must. */
export interface UploadProgress {
  /** So many were there before this call. */
  begin(resumedBytes: number): void;
  report(doneBytes: number): void;
}

export function uploadProgress(onBytes: PutBlobOptions['onBytes']): UploadProgress {
  let resumedBytes = 0;
  let doneBytes = -1;
  const report = (bytes: number) => {
    if (bytes <= doneBytes) return;
    doneBytes = bytes;
    onBytes?.(bytes, resumedBytes);
  };
  return {
    begin(resumed) {
      if (doneBytes < 0) resumedBytes = resumed;
      report(resumed);
    },
    report,
  };
}
