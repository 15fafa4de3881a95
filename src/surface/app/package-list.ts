import { existsSync } from 'node:fs';
import path from 'node:path';
import type { VersionNotices } from '../../core/format/channel-documents.ts';
import { MANIFEST_BYTES_MAX, parseModelManifest } from '../../core/format/oci.ts';
import type { HeldReason } from '../../features/updates/update-offer.ts';
import type { Freehold } from './freehold.ts';
import { type InstalledPackage, installedPackages, SIGNERS_ANNOTATION } from './installed-packages.ts';

export interface PackageRow extends VersionNotices {
  readonly name: string;
  readonly version: string;
  readonly variant: string;
  readonly quantization: string;
  readonly contentDigest: string;
  readonly manifestDigest: string;
  /** Sum over all files; -1 when the manifest cannot be read. */
  readonly sizeBytes: number;
  /** Carries a signature; whether it is a good one, verification says. */
  readonly isSigned: boolean;
  /** Why a bare name does not mean it. */
  readonly held?: HeldReason;
}

/** What is in the store, one row per variant. @throws STORE_CORRUPT */
export async function listInstalled(freehold: Freehold): Promise<PackageRow[]> {
  const { store } = freehold;
  const noticesFor = await knownNotices(freehold);
  const rows: PackageRow[] = [];
  for (const item of installedPackages(await store.entries())) {
    const { name, version, variant, quantization, contentDigest, manifestDigest, held } = item;
    const isSigned = item.entry.annotations?.[SIGNERS_ANNOTATION] !== undefined;
    const sizeBytes = await packageBytes(store, item);
    rows.push({
      ...{ name, version, variant, quantization, contentDigest, manifestDigest, sizeBytes, isSigned },
      ...(held === undefined ? {} : { held }),
      ...noticesFor(name, version),
    });
  }
  return rows;
}

/**
 * What the publishers of packages said last, as it was verified then; no date is looked at, and no network. A list must not
 * fail because such a file is damaged: `update check` says so.
 */
async function knownNotices(freehold: Freehold): Promise<(name: string, version: string) => VersionNotices> {
  // Most homes follow no channel, and `list` is what scripts call most often: TUF is read only where there is something.
  if (!existsSync(path.join(freehold.home.path, 'channels'))) return () => ({ advisories: [] });
  const { channelStore, storedContents } = await import('./channel-refresh.ts');
  const { noticesFor } = await import('../../core/format/channel-documents.ts');
  const known = new Map<string, Awaited<ReturnType<typeof storedContents>> | undefined>();
  for (const name of await channelStore(freehold).names()) {
    known.set(name, await storedContents(freehold, name).catch(() => undefined));
  }
  return (name, version) => noticesFor(known.get(name), version);
}

/** Sum over all files; -1 when the manifest cannot be read. */
export async function packageBytes(store: Freehold['store'], item: InstalledPackage): Promise<number> {
  try {
    const manifest = parseModelManifest(await store.blobs.readAll(item.manifestDigest, MANIFEST_BYTES_MAX));
    return manifest.layers.reduce((sum, layer) => sum + layer.size, 0);
  } catch {
    return -1;
  }
}
