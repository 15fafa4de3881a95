import { toFreeholdError } from '../../core/base/errors.ts';
import { parseReference } from '../../core/base/reference.ts';
import type { Freehold } from './freehold.ts';
import {
  fullReference,
  type InstalledPackage,
  installedPackages,
  selectInstalled,
} from './installed-packages.ts';
import { updateVersions, type VersionChange } from './package-writer.ts';
import { verifyInstalled } from './verify-package.ts';

export interface RemoveResult {
  readonly packages: readonly InstalledPackage[];
  readonly freedBytes: number;
}

/** Removes every variant that the reference means, then the bytes that nothing else uses. @throws MODEL_NOT_FOUND */
export async function removeInstalled(
  { store }: Freehold,
  text: string,
  isDryRun: boolean,
): Promise<RemoveResult> {
  const chosen = selectInstalled(installedPackages(await store.entries()), parseReference(text), text);
  if (isDryRun) return { packages: chosen, freedBytes: 0 };
  const changes = chosen.map(
    ({ name, version, manifestDigest }): VersionChange => ({
      name,
      version,
      change: (variants) => variants.filter((entry) => entry.digest !== manifestDigest),
    }),
  );
  await store.withLease(() => updateVersions(store, changes));
  const { freedBytes } = await store.gc();
  return { packages: chosen, freedBytes };
}

/**
 * Removes what no package uses, and what killed processes left; `isDryRun` only counts.
 * @throws BUSY while an install runs, STORE_CORRUPT
 */
export async function collectGarbage(
  { store, home }: Freehold,
  isDryRun: boolean,
): Promise<{ removed: number; freedBytes: number }> {
  const { removed, removedTempFiles, freedBytes } = await store.gc({ dryRun: isDryRun });
  const leftovers = isDryRun ? 0 : await home.removeLeftovers();
  return { removed: removed.length + removedTempFiles + leftovers, freedBytes };
}

export interface StoreCheck {
  readonly blobs: number;
  readonly bytes: number;
  readonly packages: number;
  /** Damage, and packages that fail verification: one line each. */
  readonly problems: readonly string[];
  /** What only takes up room, and packages that are not signed yet. */
  readonly remarks: readonly string[];
}

/** Hashes every byte of the store and verifies every package; changes nothing. */
export async function checkStore(freehold: Freehold, signal: AbortSignal): Promise<StoreCheck> {
  const report = await freehold.store.check({
    signal,
    onBytes: (doneBytes, totalBytes) =>
      freehold.progress({ kind: 'bytes-moved', label: 'check', doneBytes, totalBytes }),
  });
  const problems = report.findings.filter((finding) => finding.isDamage).map(describeFinding);
  const leftovers = report.findings.filter((finding) => !finding.isDamage).length;
  const remarks =
    leftovers === 0
      ? []
      : [`${leftovers} files that no package uses, or that a dead process left: freehold gc`];
  const packages = await freehold.store.entries().then(installedPackages, () => []);
  for (const item of packages) {
    try {
      await verifyInstalled(freehold, item);
    } catch (thrown) {
      const error = toFreeholdError(thrown);
      const line = `${fullReference(item)}: ${error.message} [${error.code}]`;
      if (error.code === 'SIGNATURE_MISSING') remarks.push(line);
      else problems.push(line);
    }
  }
  return { blobs: report.blobs, bytes: report.hashedBytes, packages: packages.length, problems, remarks };
}

function describeFinding(finding: {
  message: string;
  owners: readonly { entry: string; file?: string }[];
}): string {
  const [owner] = finding.owners;
  if (owner === undefined) return finding.message;
  return `${owner.file ?? 'the manifest'} of ${owner.entry}: ${finding.message}`;
}
