import { MANIFEST_BYTES_MAX, parseModelManifest } from '../../core/format/oci.ts';
import type { Freehold } from './freehold.ts';
import { type InstalledPackage, installedPackages, SIGNERS_ANNOTATION } from './installed-packages.ts';

export interface PackageRow {
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
}

/** What is in the store, one row per variant. @throws STORE_CORRUPT */
export async function listInstalled({ store }: Freehold): Promise<PackageRow[]> {
  const rows: PackageRow[] = [];
  for (const item of installedPackages(await store.entries())) {
    const { name, version, variant, quantization, contentDigest, manifestDigest } = item;
    const isSigned = item.entry.annotations?.[SIGNERS_ANNOTATION] !== undefined;
    const sizeBytes = await packageBytes(store, item);
    rows.push({ name, version, variant, quantization, contentDigest, manifestDigest, sizeBytes, isSigned });
  }
  return rows;
}

async function packageBytes(store: Freehold['store'], item: InstalledPackage): Promise<number> {
  try {
    const manifest = parseModelManifest(await store.blobs.readAll(item.manifestDigest, MANIFEST_BYTES_MAX));
    return manifest.layers.reduce((sum, layer) => sum + layer.size, 0);
  } catch {
    return -1;
  }
}
