import { randomBytes } from 'node:crypto';
import { Digest } from '../../src/core/base/digest.ts';
import { encodePackage, type SignatureFile } from '../../src/core/format/modelpack.ts';
import { ANNOTATION, encodeJson, type ModelManifest, type OciDescriptor } from '../../src/core/format/oci.ts';
import type { PackageDescriptor } from '../../src/core/format/package-descriptor.ts';
import { readPackage, type UnverifiedPackage } from '../../src/core/format/package-verification.ts';
import type { Freehold } from '../../src/surface/app/freehold.ts';
import { installedPackages } from '../../src/surface/app/installed-packages.ts';
import { updateVersion, writePackage } from '../../src/surface/app/package-writer.ts';

// What somebody can do who may write everywhere in the store and knows the format: every digest, size, entry and
// checksum is right, only the publisher's key is missing. All of it goes through the store's own code.

/** What the attacker starts from: a package, and another one signed by the same key. */
export interface AttackGround {
  readonly freehold: Freehold;
  readonly target: UnverifiedPackage & { readonly entry: OciDescriptor };
  readonly other: UnverifiedPackage & { readonly entry: OciDescriptor };
}

export interface StoreAttack {
  readonly name: string;
  /** What the refusal must name. */
  readonly names: RegExp;
  /** The code of the refusal. */
  readonly code: string;
  /** Changes what `index.json` lists for the target. */
  readonly carryOut: (ground: AttackGround) => Promise<void>;
}

export async function attackGround(freehold: Freehold, target: string, other: string): Promise<AttackGround> {
  const packages = installedPackages(await freehold.store.entries());
  const read = async (name: string) => {
    const item = packages.find((candidate) => candidate.name === name);
    if (item === undefined) throw new Error(`${name} is not installed`);
    return { ...(await readPackage(freehold.store.blobs, item.manifestDigest)), entry: item.entry };
  };
  return { freehold, target: await read(target), other: await read(other) };
}

/** Puts the target's own entry back. */
export async function undoAttack({ freehold, target }: AttackGround): Promise<void> {
  await list(freehold, target.descriptor, target.entry);
}

async function list(
  freehold: Freehold,
  { name, version }: PackageDescriptor,
  entry: OciDescriptor,
): Promise<void> {
  await updateVersion(freehold.store, name, version, () => [entry]);
}

/** Lists a manifest of the attacker's own making under the target's name. */
async function listManifest({ freehold, target }: AttackGround, manifest: unknown): Promise<void> {
  const bytes = encodeJson(manifest);
  await freehold.store.blobs.write(bytes);
  await list(freehold, target.descriptor, {
    ...target.entry,
    digest: Digest.of(bytes),
    size: bytes.byteLength,
  });
}

/** Lists a descriptor with everything that follows from it made anew. */
async function listDescriptor(
  { freehold, target }: AttackGround,
  descriptor: PackageDescriptor,
  signatures: readonly SignatureFile[] = target.signatures,
): Promise<void> {
  const written = await writePackage(freehold.store.blobs, descriptor, signatures);
  await list(freehold, target.descriptor, {
    ...target.entry,
    digest: written.entry.digest,
    size: written.entry.size,
  });
}

function editManifest(
  name: string,
  edit: (manifest: ModelManifest) => unknown,
  names = /the manifest/,
): StoreAttack {
  return {
    name: `manifest: ${name}`,
    names,
    code: 'PACKAGE_INVALID',
    carryOut: (ground) => listManifest(ground, edit(structuredClone(ground.target.manifest))),
  };
}

function editDescriptor(
  name: string,
  edit: (descriptor: PackageDescriptor) => PackageDescriptor,
): StoreAttack {
  return {
    name: `descriptor: ${name}`,
    names: /freehold\.json/,
    code: 'DIGEST_MISMATCH',
    carryOut: (ground) => listDescriptor(ground, edit(structuredClone(ground.target.descriptor))),
  };
}

export const STORE_ATTACKS: readonly StoreAttack[] = [
  {
    name: "another package's signature",
    names: /model\.sig|freehold\.json/,
    code: 'DIGEST_MISMATCH',
    carryOut: (ground) => listDescriptor(ground, ground.target.descriptor, ground.other.signatures),
  },
  {
    name: 'no signature',
    names: /acme\/tiny/,
    code: 'SIGNATURE_MISSING',
    carryOut: (ground) => listDescriptor(ground, ground.target.descriptor, []),
  },
  {
    name: 'a signature of random bytes',
    names: /model\.sig/,
    code: 'SIGNATURE_MALFORMED',
    async carryOut(ground) {
      const info = await ground.freehold.store.blobs.write(randomBytes(1500));
      const forged = { path: 'model.sig', digest: info.digest, sizeBytes: info.sizeBytes };
      await listDescriptor(ground, ground.target.descriptor, [forged]);
    },
  },
  {
    name: "an entry that points to another package's manifest",
    names: /acme\/other/,
    code: 'PACKAGE_INVALID',
    carryOut: ({ freehold, target, other }) =>
      list(freehold, target.descriptor, {
        ...target.entry,
        digest: other.entry.digest,
        size: other.entry.size,
      }),
  },
  {
    name: 'manifest: not a manifest at all',
    names: /manifest/,
    code: 'MANIFEST_INVALID',
    carryOut: (ground) => listManifest(ground, { ...ground.target.manifest, schemaVersion: 3 }),
  },
  editManifest('a file less', (manifest) => ({ ...manifest, layers: manifest.layers.toSpliced(1, 1) })),
  editManifest('a file twice', (manifest) => ({
    ...manifest,
    layers: [...manifest.layers, ...manifest.layers.slice(1, 2)],
  })),
  editManifest('files in another order', (manifest) => ({
    ...manifest,
    layers: manifest.layers.toReversed(),
  })),
  editManifest('another media type', (manifest) => ({
    ...manifest,
    layers: manifest.layers.map((layer, index) =>
      index === 1 ? { ...layer, mediaType: 'application/octet-stream' } : layer,
    ),
  })),
  editManifest('another annotation', (manifest) => ({
    ...manifest,
    annotations: { ...manifest.annotations, [ANNOTATION.licenses]: 'MIT' },
  })),
  {
    name: "manifest: the other package's weights",
    names: /the manifest/,
    code: 'PACKAGE_INVALID',
    carryOut: (ground) => {
      const foreign = ground.other.descriptor.files.find(({ role }) => role === 'weights');
      const layers = ground.target.manifest.layers.map((layer) =>
        layer.mediaType.includes('weight.v1') && foreign !== undefined
          ? { ...layer, digest: foreign.digest }
          : layer,
      );
      return listManifest(ground, { ...ground.target.manifest, layers });
    },
  },
  {
    name: "manifest: the other package's config",
    names: /the (manifest|config)/,
    code: 'PACKAGE_INVALID',
    carryOut: (ground) =>
      listManifest(ground, { ...ground.target.manifest, config: ground.other.manifest.config }),
  },
  editDescriptor('other parameters', (descriptor) => ({ ...descriptor, parameters: { stop: ['no'] } })),
  editDescriptor('another licence', (descriptor) => ({ ...descriptor, license: 'MIT' })),
  {
    name: "descriptor: the other package's weights",
    names: /freehold\.json|\.gguf/,
    code: 'DIGEST_MISMATCH',
    carryOut: (ground) => {
      const foreign = ground.other.descriptor.files.find(({ role }) => role === 'weights');
      const files = ground.target.descriptor.files.map((file) =>
        file.role === 'weights' && foreign !== undefined
          ? { ...file, digest: foreign.digest, size: foreign.size }
          : file,
      );
      return listDescriptor(ground, { ...ground.target.descriptor, files });
    },
  },
  {
    name: 'descriptor: in other bytes',
    names: /freehold\.json/,
    code: 'PACKAGE_INVALID',
    async carryOut(ground) {
      const { freehold, target } = ground;
      const bytes = Buffer.from(JSON.stringify(target.descriptor));
      await freehold.store.blobs.write(bytes);
      const encoded = encodePackage(target.descriptor, target.signatures);
      const manifest = JSON.parse(encoded.manifest.bytes.toString('utf8')) as ModelManifest;
      const layers = manifest.layers.map((layer, index) =>
        index === 0 ? { ...layer, digest: Digest.of(bytes), size: bytes.byteLength } : layer,
      );
      await listManifest(ground, { ...manifest, layers });
    },
  },
];
