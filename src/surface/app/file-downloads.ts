import { FreeholdError, namingFile } from '../../core/base/errors.ts';
import type { ArtifactSource } from '../../core/format/artifact-place.ts';
import type { PackageFile } from '../../core/format/package-descriptor.ts';
import type { VerifiedPackage } from '../../core/format/package-verification.ts';
import { type Delta, type DeltaBase, openDelta, putBlobByDelta } from '../../features/transfer/delta.ts';
import { fromAny } from '../../features/transfer/failover.ts';
import { TransferMeter } from '../../features/transfer/transfer-meter.ts';
import { storePlace } from '../../io/store/store-place.ts';
import type { Freehold } from './freehold.ts';
import { fullReference, installedPackages } from './installed-packages.ts';

const WRONG_BYTES_HINT =
  'the registry gives other bytes than were signed: try another mirror, and tell the publisher';
/** Each base is read once to find its chunks; a second one rarely has what the first has not. */
const DELTA_BASES_MAX = 2;

/** Variants that are here and probably share bytes: of the same package, the same variant and the newest first. */
export async function deltaBases(
  { store }: Freehold,
  { descriptor, manifestDigest }: VerifiedPackage,
  signal: AbortSignal,
): Promise<DeltaBase[]> {
  const { name, variant } = descriptor;
  const others = installedPackages(await store.entries())
    .filter((item) => item.name === name && item.manifestDigest !== manifestDigest)
    .sort((left, right) => Number(right.variant === variant) - Number(left.variant === variant));
  const place = storePlace(store, name);
  const bases: DeltaBase[] = [];
  for (const item of others.slice(0, DELTA_BASES_MAX)) {
    const manifest = await place.manifest({ digest: item.manifestDigest }, signal);
    if (manifest !== undefined) bases.push({ manifest, source: place, blobs: store.blobs });
  }
  return bases;
}

/** Brings the files of one variant into the store, from the first source that gives each, and counts. */
export class FileDownloads {
  readonly #freehold: Freehold;
  readonly #sources: readonly ArtifactSource[];
  readonly #delta: Delta | undefined;
  readonly #meter: TransferMeter;
  #totalBytes = 0;
  #presentBytes = 0;

  constructor(
    freehold: Freehold,
    sources: readonly ArtifactSource[],
    { descriptor, manifestDigest: manifest }: VerifiedPackage,
    bases: readonly DeltaBase[],
  ) {
    this.#freehold = freehold;
    this.#sources = sources;
    const blobs = descriptor.files.map(({ digest, size }) => ({ digest, sizeBytes: size }));
    this.#meter = new TransferMeter(fullReference(descriptor), blobs, freehold.progress);
    this.#delta = bases.length === 0 ? undefined : openDelta({ manifest, bases });
  }

  get transfer(): { fetchedBytes: number; reusedBytes: number } {
    const reusedBytes = this.#presentBytes + (this.#delta?.report.reusedBytes ?? 0);
    return { fetchedBytes: Math.max(0, this.#totalBytes - reusedBytes), reusedBytes };
  }

  /** @throws what the sources throw, naming the file; DIGEST_MISMATCH, DISK_FULL */
  async bring(file: PackageFile, signal: AbortSignal): Promise<void> {
    const { store, progress } = this.#freehold;
    const blob = { digest: file.digest, sizeBytes: file.size };
    const sink = storePlace(store, '');
    const moving = this.#meter.onBytes(blob);
    this.#totalBytes += file.size;
    let keptBytes = 0;
    const onBytes: typeof moving = (doneBytes, resumedBytes) => {
      keptBytes = resumedBytes;
      moving(doneBytes, resumedBytes);
    };
    try {
      const outcome = await fromAny(this.#sources, file.path, { signal, progress }, (source) =>
        putBlobByDelta(sink, blob, { source, delta: this.#delta, signal, onBytes }),
      );
      this.#meter.done(blob, outcome !== 'written');
      this.#presentBytes += outcome === 'written' ? keptBytes : file.size;
    } catch (error) {
      const isWrong = error instanceof FreeholdError && error.code === 'DIGEST_MISMATCH';
      throw namingFile(error, file.path, isWrong ? WRONG_BYTES_HINT : undefined);
    }
  }
}
