import path from 'node:path';
import { FreeholdError } from '../../core/base/errors.ts';
import type { RegistryReference } from '../../core/base/registry-reference.ts';
import { type ArtifactDocument, parseArtifactDocument } from '../../core/format/artifact-documents.ts';
import type { ArtifactSource, ManifestDocument } from '../../core/format/artifact-place.ts';
import {
  describeForeignArtifact,
  type ForeignArtifact,
  foreignFamily,
} from '../../core/format/foreign-artifact.ts';
import { LICENSE_UNKNOWN, licenseExpression } from '../../core/format/license-expression.ts';
import { CONFIG_BYTES_MAX, type OciDescriptor } from '../../core/format/oci.ts';
import { parseOllamaParameters } from '../../core/format/ollama-parameters.ts';
import { CHAT_TEMPLATE_BYTES_MAX, type PackageFile } from '../../core/format/package-descriptor.ts';
import { fromAny, readDocument } from '../../features/transfer/failover.ts';
import { unpackGguf } from './foreign-archive.ts';
import type { Freehold } from './freehold.ts';
import {
  type ImportOptions,
  type ImportResult,
  importName,
  requireImportAccepted,
  UNSIGNED,
} from './import-options.ts';
import { readSmallBlob } from './install-artifact.ts';
import { type ImportedBytes, installGguf, installOnce } from './install-gguf.ts';

/** The texts of the longest licences of models have 40 KiB. */
const LICENSE_BYTES_MAX = 1 << 20;
/** Ollama's models have one or two. */
const LICENSES_MAX = 8;
/** Defaults of a model: a few numbers and stop strings. */
const PARAMETERS_BYTES_MAX = 256 << 10;
const UNNAMED_TAGS = ['latest'];
/** An artifact of another tool, wherever its blobs lie. */
export interface ForeignPlace {
  /** For messages. */
  readonly label: string;
  /** A reference to exactly this artifact. */
  readonly source: string;
  /** What the package's name follows from. */
  readonly name: string;
  /** A blob in memory, hashed. @throws SIZE_MISMATCH, DIGEST_MISMATCH */
  readSmall(layer: OciDescriptor, bytesMax: number): Promise<Buffer>;
  /** A blob of the weights: brings it into the store, or says which file has it. */
  bring(layer: OciDescriptor): Promise<ImportedBytes>;
}

/**
 * Installs a model that another tool pushed to a registry (Ollama, Docker, KitOps, ModelPack) as `local/NAME`: the weights
 * are downloaded by digest, and packaged like a catalog model. Nobody's signature vouches for them.
 * @param sources the registry and its mirrors
 * @param manifest a manifest, or an image index with one
 * @throws NOT_SUPPORTED saying what it is instead, MANIFEST_INVALID, NETWORK, and what `installGguf` throws
 */
export async function installForeign(
  freehold: Freehold,
  sources: readonly ArtifactSource[],
  manifest: ManifestDocument,
  reference: RegistryReference,
  options: ImportOptions,
): Promise<ImportResult> {
  const { host, repository, selector } = reference;
  const { signal } = options;
  const { progress, store } = freehold;
  const label = `oci://${host}/${repository}`;
  const { document, digest } = await onlyManifest(sources, manifest, label, freehold, signal);
  const family = foreignFamily(document);
  const hasTag = (family === 'ollama' || family === 'docker') && selector.kind === 'tag';
  const baseName = path.posix.basename(repository);
  const place: ForeignPlace = {
    label,
    source: `${label}@${digest}`,
    // Ollama and Docker put the size of a model into its tag.
    name: hasTag ? nameWithTag(baseName, selector.tag) : baseName,
    readSmall: (layer, bytesMax) => readSmallBlob(freehold, sources, layer, bytesMax, signal),
    async bring(layer) {
      const blob = { digest: layer.digest, sizeBytes: layer.size };
      await fromAny(sources, label, { signal, progress }, (source) =>
        store.download(blob, (startBytes) => source.blob(blob, { startBytes }, signal), {
          signal,
          onBytes: (doneBytes, resumedBytes) =>
            progress({
              kind: 'bytes-moved',
              label: baseName,
              doneBytes,
              totalBytes: layer.size,
              resumedBytes,
            }),
        }),
      );
      return { kind: 'stored', ...blob };
    },
  };
  const installed = await installForeignArtifact(freehold, document, place, options);
  return { ...installed, remarks: [UNSIGNED, ...installed.remarks] };
}

/** `smollm2` and `135M-Q4_0` together; a tag that says nothing is left out. */
export function nameWithTag(name: string, tag: string): string {
  const short = path.posix.basename(name);
  return UNNAMED_TAGS.includes(tag) ? short : `${short}-${tag}`;
}

async function onlyManifest(
  sources: readonly ArtifactSource[],
  given: ManifestDocument,
  label: string,
  { progress }: Freehold,
  signal: AbortSignal,
): Promise<{ document: ArtifactDocument; digest: string }> {
  const document = parseArtifactDocument(given.bytes, label);
  if (document.kind === 'manifest') return { document, digest: given.digest };
  const [only, ...others] = document.manifests;
  if (only === undefined || others.length > 0) {
    throw new FreeholdError(
      'NOT_SUPPORTED',
      `${label} has ${document.manifests.length} artifacts under one name`,
      {
        hint:
          only === undefined
            ? 'the tag is empty'
            : `name one of them: ${document.manifests
                .slice(0, 5)
                .map(({ digest }) => `${label}@${digest}`)
                .join(', ')}`,
      },
    );
  }
  const found = await readDocument(sources, { digest: only.digest }, { signal, progress });
  return { document: parseArtifactDocument(found.bytes, label), digest: found.digest };
}

/**
 * The same from wherever the blobs lie. The caller has read the manifest.
 * @throws NOT_SUPPORTED, LICENSE_NOT_ACCEPTED, MANIFEST_INVALID, ARCHIVE_INVALID, and what `installGguf` throws
 */
export async function installForeignArtifact(
  freehold: Freehold,
  document: ArtifactDocument,
  place: ForeignPlace,
  options: ImportOptions,
): Promise<ImportResult> {
  const config =
    document.config === undefined ? undefined : await place.readSmall(document.config, CONFIG_BYTES_MAX);
  const artifact = describeForeignArtifact(document, config, place.label);
  const { weights } = artifact;
  const name = importName(options, place.name);
  const license = licenseExpression(artifact.license);
  const { parameters, remarks } = await foreignParameters(artifact, place);
  const digests = weights.kind === 'files' ? weights.layers.map(({ digest }) => digest) : [];
  const installed = await installOnce(freehold, { name, digests }, options, () =>
    freehold.store.withLease(async () => {
      requireImportAccepted(license, place.label, undefined, options);
      const documents = await storeDocuments(freehold, artifact, place);
      const bytes =
        weights.kind === 'files'
          ? await bringAll(weights.layers, place)
          : await unpackGguf(freehold, weights, place, options.signal);
      const facts = {
        name,
        description: `Imported from ${place.label}.`,
        documents,
        ...(license === LICENSE_UNKNOWN ? {} : { license }),
        ...(parameters === undefined ? {} : { parameters }),
      };
      return installGguf(freehold, bytes, facts, options);
    }),
  );
  return { ...installed, source: place.source, remarks: [...artifact.remarks, ...remarks] };
}

async function bringAll(layers: readonly OciDescriptor[], place: ForeignPlace): Promise<ImportedBytes[]> {
  const brought: ImportedBytes[] = [];
  for (const layer of layers) brought.push(await place.bring(layer));
  return brought;
}

async function foreignParameters(artifact: ForeignArtifact, place: ForeignPlace) {
  if (artifact.parameters === undefined) return { parameters: undefined, remarks: [] };
  const bytes = await place.readSmall(artifact.parameters, PARAMETERS_BYTES_MAX);
  return parseOllamaParameters(bytes, place.label);
}

/** Texts of licences and a chat template; under names of ours, since those of the artifact are a stranger's. */
async function storeDocuments(
  { store }: Freehold,
  artifact: ForeignArtifact,
  place: ForeignPlace,
): Promise<PackageFile[]> {
  const files: PackageFile[] = [];
  const add = async (layer: OciDescriptor, bytesMax: number, name: string, role: PackageFile['role']) => {
    const info = await store.blobs.write(await place.readSmall(layer, bytesMax), { digest: layer.digest });
    files.push({ path: name, role, size: info.sizeBytes, digest: info.digest });
  };
  for (const [index, layer] of artifact.licenseTexts.slice(0, LICENSES_MAX).entries()) {
    await add(layer, LICENSE_BYTES_MAX, index === 0 ? 'LICENSE' : `LICENSE-${index + 1}`, 'doc');
  }
  if (artifact.chatTemplate !== undefined) {
    await add(artifact.chatTemplate, CHAT_TEMPLATE_BYTES_MAX, 'chat-template.jinja', 'chat-template');
  }
  return files;
}
