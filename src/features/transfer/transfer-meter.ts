import type { Progress } from '../../core/base/progress.ts';
import type { BlobReference, PutBlobOptions } from '../../core/format/artifact-place.ts';

/** Events for each transfer at most, about: a bar shows no finer steps, and each costs time beside the bytes. */
const STEPS = 400;

/** One progress over blobs that move at the same time. */
export class TransferMeter {
  readonly #label: string;
  readonly #progress: Progress;
  readonly #totalBytes: number;
  readonly #blobs = new Map<string, { doneBytes: number; resumedBytes: number }>();
  #reportedBytes = Number.NEGATIVE_INFINITY;

  /** @param blobs those that turn out to be there count as done at once */
  constructor(label: string, blobs: Iterable<BlobReference>, progress: Progress) {
    this.#label = label;
    this.#progress = progress;
    let totalBytes = 0;
    for (const { digest, sizeBytes } of blobs) {
      // Two files with the same bytes are one blob.
      if (!this.#blobs.has(digest)) totalBytes += sizeBytes;
      this.#blobs.set(digest, { doneBytes: 0, resumedBytes: 0 });
    }
    this.#totalBytes = totalBytes;
  }

  /** For `putBlob` of one of them. */
  onBytes({ digest }: BlobReference): NonNullable<PutBlobOptions['onBytes']> {
    return (doneBytes, resumedBytes) => {
      this.#blobs.set(digest, { doneBytes, resumedBytes });
      this.#report();
    };
  }

  /** A blob is in its place. @param wasThere nothing of it was moved */
  done({ digest, sizeBytes }: BlobReference, wasThere: boolean): void {
    const resumedBytes = wasThere ? sizeBytes : (this.#blobs.get(digest)?.resumedBytes ?? 0);
    this.#blobs.set(digest, { doneBytes: sizeBytes, resumedBytes });
    this.#report();
  }

  #report(): void {
    let doneBytes = 0;
    let resumedBytes = 0;
    for (const blob of this.#blobs.values()) {
      doneBytes += blob.doneBytes;
      resumedBytes += blob.resumedBytes;
    }
    const isComplete = doneBytes === this.#totalBytes;
    const isStep = Math.abs(doneBytes - this.#reportedBytes) >= this.#totalBytes / STEPS;
    if (doneBytes === this.#reportedBytes || !(isComplete || isStep)) return;
    this.#reportedBytes = doneBytes;
    const totalBytes = this.#totalBytes;
    this.#progress({ kind: 'bytes-moved', label: this.#label, doneBytes, totalBytes, resumedBytes });
  }
}
