import type { Digest } from '../../core/base/digest.ts';
import { formatFingerprint } from '../../core/crypto/keys.ts';
import { openArchive } from '../../io/archive/archive.ts';
import {
  type ArchivePackage,
  readArchivePackages,
  readArchiveTrust,
  referenceOf,
} from './archive-packages.ts';
import type { Freehold } from './freehold.ts';
import { firstSigner } from './verify-package.ts';

export interface VerifiedArchivePackage {
  readonly reference: string;
  /** `refused`: every byte is as it was written, but this home does not trust who signed. */
  readonly outcome: 'trusted' | 'catalog' | 'refused';
  /** Who signed, or why it is refused, for people. */
  readonly remark: string;
}

export interface ArchiveVerification {
  readonly id: Digest;
  readonly sizeBytes: number;
  readonly packages: readonly VerifiedArchivePackage[];
  /** Keys that the archive offers; what they are worth, it cannot say. */
  readonly keys: readonly { readonly pattern: string; readonly fingerprint: string }[];
  readonly hasProgram: boolean;
  /** Blobs that an earlier archive holds. */
  readonly leftOut: readonly {
    readonly file: string;
    readonly archive: string;
    readonly isInStore: boolean;
  }[];
}

/**
 * Reads an archive from the first byte to the last, hashes every part and every file, and verifies every signature under
 * this home's trust. Installs nothing.
 * @throws ARCHIVE_INVALID naming part or entry, NOT_FOUND, what is wrong with a package itself
 */
export async function verifyArchive(
  freehold: Freehold,
  file: string,
  signal: AbortSignal,
): Promise<ArchiveVerification> {
  const archive = await openArchive(file, signal);
  try {
    const { layout } = archive;
    await archive.check({
      signal,
      onBytes: (doneBytes, totalBytes) =>
        freehold.progress({ kind: 'bytes-moved', label: layout.label, doneBytes, totalBytes }),
    });
    const packages = await readArchivePackages(freehold, archive, { kind: 'none' }, signal);
    const leftOut = [];
    for (const blob of layout.missing) {
      const left = layout.contents?.leftOut.find(({ digest }) => digest === blob.digest);
      leftOut.push({
        file: blob.file ?? blob.digest,
        archive: left?.archive.name ?? 'unknown',
        isInStore: await freehold.store.blobs.has(blob.digest),
      });
    }
    const { rules } = await readArchiveTrust(freehold, archive, signal);
    return {
      id: layout.id,
      sizeBytes: archive.sizeBytes,
      packages: packages.map(reportOf),
      keys: rules.flatMap(({ pattern, keys }) =>
        keys.map(({ fingerprint }) => ({ pattern, fingerprint: formatFingerprint(fingerprint) })),
      ),
      hasProgram: layout.contents?.program !== undefined,
      leftOut,
    };
  } finally {
    await archive.close();
  }
}

function reportOf(item: ArchivePackage): VerifiedArchivePackage {
  const reference = referenceOf(item);
  switch (item.kind) {
    case 'trusted':
    case 'adopted': {
      const { fingerprint, trustedFor } = firstSigner(item.verified.signers);
      const remark = `signed by ${formatFingerprint(fingerprint)}, trusted for ${trustedFor}`;
      return { reference, outcome: 'trusted', remark };
    }
    case 'pinned':
      return {
        reference,
        outcome: 'catalog',
        remark: `its weights are those of the catalog: ${item.entry.digest}`,
      };
    case 'refused':
      return { reference, outcome: 'refused', remark: `${item.error.message} [${item.error.code}]` };
    default:
      return item satisfies never;
  }
}
