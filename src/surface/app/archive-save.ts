import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Digest } from '../../core/base/digest.ts';
import { FreeholdError, toFreeholdError } from '../../core/base/errors.ts';
import { parseReference } from '../../core/base/reference.ts';
import { SIGNATURE_PATHS } from '../../core/crypto/model-signing.ts';
import {
  ARCHIVE_ARTIFACT_TYPE,
  ARCHIVE_TAG,
  ARCHIVE_TRUST_PATH,
  type ArchivedPackage,
  CONTENTS_PATH,
  encodeArchiveContents,
  type LeftOutBlob,
  PROGRAM_ARTIFACT_TYPE,
  PROGRAM_LAYER_PATH,
  PROGRAM_LAYER_TYPE,
  PROGRAM_TAG,
  RESTORE_SCRIPT_PATH,
} from '../../core/format/archive-contents.ts';
import { blobName } from '../../core/format/archive-layout.ts';
import { encodeArchiveTrust } from '../../core/format/archive-trust.ts';
import { parseArtifactDocument } from '../../core/format/artifact-documents.ts';
import type { ArtifactSource, ManifestDocument } from '../../core/format/artifact-place.ts';
import { layerPath, type OciDescriptor } from '../../core/format/oci.ts';
import { DESCRIPTOR_PATH } from '../../core/format/package-descriptor.ts';
import { artifactManifest, EMPTY_CONFIG, EMPTY_CONFIG_BYTES } from '../../core/format/referrer.ts';
import { copyArtifact } from '../../features/transfer/copy-artifact.ts';
import {
  CHANNELS_TAG,
  encodeChannelArtifact,
  isChannelLayer,
} from '../../features/updates/channel-artifact.ts';
import { openArchive } from '../../io/archive/archive.ts';
import { ArchiveDraft, describe } from '../../io/archive/archive-draft.ts';
import { archiveBytes, writeArchive } from '../../io/archive/archive-writer.ts';
import { packProgram, restoreScript } from '../../io/archive/program-archive.ts';
import { storePlace } from '../../io/store/store-place.ts';
import { channelStore } from './channel-refresh.ts';
import type { Freehold } from './freehold.ts';
import {
  fullReference,
  type InstalledPackage,
  installedPackages,
  selectInstalled,
} from './installed-packages.ts';
import { verifyInstalled } from './verify-package.ts';
import { FREEHOLD_VERSION } from './version.ts';

/** The folder with `package.json`: three above, in `src` and in `dist` alike. */
const PROGRAM_ROOT = fileURLToPath(new URL('../../../', import.meta.url));
/** What the Node and the libraries in the archive are built for. */
const PROGRAM_PLATFORM = 'linux-x64';

export interface SaveArchiveOptions {
  readonly signal: AbortSignal;
  /** Splits the archive; see `writeArchive`. */
  readonly partBytes?: number | undefined;
  /** An earlier archive: what it holds, or left out itself, is left out. */
  readonly since?: string | undefined;
  readonly isWithoutProgram?: boolean;
  /** Reads and counts everything, writes nothing. */
  readonly isDryRun?: boolean;
}

export interface SavedArchive {
  /** In the order in which they are read; nothing was written at a dry run. */
  readonly files: readonly string[];
  readonly sizeBytes: number;
  /** SHA-256 of the one file, or of the list of parts; absent at a dry run. */
  readonly digest: Digest | null;
  readonly packages: readonly string[];
  /** Freehold itself is in it. */
  readonly hasProgram: boolean;
  /** Held back here and named by nobody, so not in the archive. */
  readonly heldBack: readonly string[];
  /** Channels that could not be read, and why. */
  readonly remarks: readonly string[];
  /** What an earlier archive holds. */
  readonly leftOut: { readonly blobs: number; readonly bytes: number; readonly archives: readonly string[] };
}

/**
 * Writes installed packages, with signatures, referrers, channels and the keys that they need, and Freehold itself, to one
 * file or numbered parts. Only what verifies under this home's trust goes in.
 * @param references none: all that is installed. What is held back goes in only by its version, and stays marked.
 * @throws USAGE, MODEL_NOT_FOUND, ALREADY_EXISTS, DISK_FULL, whatever verification throws
 */
export async function saveArchive(
  freehold: Freehold,
  file: string,
  references: readonly string[],
  options: SaveArchiveOptions,
): Promise<SavedArchive> {
  const { signal } = options;
  if (file === '') {
    throw new FreeholdError('USAGE', 'the archive to write has no name', {
      hint: 'freehold archive save models.tar',
    });
  }
  const { items, heldBack } = await chosenPackages(freehold, references);
  // From the first look at a blob to its last byte in the archive nothing may be collected.
  return freehold.store.withLease(async () => {
    const draft = new ArchiveDraft();
    const packages = await addPackages(freehold, draft, items, signal);
    const names = [...new Set(packages.map(({ name }) => name))].sort();
    const remarks: string[] = [];
    for (const name of names) remarks.push(...(await addChannels(freehold, draft, name)));
    const script = options.isWithoutProgram === true ? undefined : await addProgram(freehold, draft, signal);
    const leftOut = await blobsToLeaveOut(draft, options);
    const isLeftOut = new Set(leftOut.map(({ digest }) => digest));
    const hasProgram = script !== undefined && !isLeftOut.has(script.program);
    const trust = encodeArchiveTrust(await freehold.home.trust.load(), names);
    addContents(draft, trust, { packages, leftOut, hasProgram });
    const plan = draft.plan(
      (digest) => isLeftOut.has(digest),
      script !== undefined && hasProgram ? { name: RESTORE_SCRIPT_PATH, bytes: script.bytes } : undefined,
    );
    const summary = {
      packages: items.map(fullReference),
      hasProgram,
      heldBack: heldBack.map(fullReference),
      remarks,
      leftOut: {
        blobs: leftOut.length,
        bytes: leftOut.reduce((sum, blob) => sum + blob.size, 0),
        archives: [...new Set(leftOut.map(({ archive }) => archive.name))].sort(),
      },
    };
    if (options.isDryRun === true) {
      return { ...summary, files: [], sizeBytes: archiveBytes(plan), digest: null };
    }
    const written = await writeArchive(file, plan, {
      signal,
      ...(options.partBytes === undefined ? {} : { partBytes: options.partBytes }),
      onBytes: (doneBytes, totalBytes) =>
        freehold.progress({ kind: 'bytes-moved', label: path.basename(file), doneBytes, totalBytes }),
    });
    return { ...summary, ...written };
  });
}

async function chosenPackages(
  { store }: Freehold,
  references: readonly string[],
): Promise<{ items: readonly InstalledPackage[]; heldBack: readonly InstalledPackage[] }> {
  const installed = installedPackages(await store.entries());
  if (installed.length === 0) {
    throw new FreeholdError('MODEL_NOT_FOUND', 'nothing is installed that could go into an archive', {
      hint: 'freehold install MODEL first',
    });
  }
  const chosen = new Map(references.length === 0 ? installed.map((item) => [item, false]) : []);
  for (const text of references) {
    const reference = parseReference(text);
    const isVersionNamed = reference.kind === 'installed' && reference.version !== undefined;
    for (const item of selectInstalled(installed, reference, text)) {
      chosen.set(item, isVersionNamed || chosen.get(item) === true);
    }
  }
  const isLeftOut = (item: InstalledPackage) => item.held !== undefined && chosen.get(item) !== true;
  const wanted = installed.filter((item) => chosen.has(item));
  const [items, heldBack] = [wanted.filter((item) => !isLeftOut(item)), wanted.filter(isLeftOut)];
  if (items.length > 0) return { items, heldBack };
  throw new FreeholdError('MODEL_NOT_FOUND', 'everything that was named is held back', {
    hint: `freehold list says why; with its version it goes in all the same: ${heldBack.map(fullReference).join(', ')}`,
  });
}

/** Variants with all that refers to them, and the index of each version of which all variants are chosen. */
async function addPackages(
  freehold: Freehold,
  draft: ArchiveDraft,
  items: readonly InstalledPackage[],
  signal: AbortSignal,
): Promise<ArchivedPackage[]> {
  const packages: ArchivedPackage[] = [];
  for (const item of items) {
    const { name, version, variant, manifestDigest, held } = item;
    const { contentDigest } = await verifyInstalled(freehold, item);
    const source = storePlace(freehold.store, name);
    await addArtifact(draft, source, name, { digest: manifestDigest }, `${version}-${variant}`, signal);
    packages.push({
      ...{ name, version, variant, manifest: manifestDigest, content: contentDigest },
      ...(held === undefined ? {} : { held }),
    });
  }
  const chosen = new Set<string>(items.map(({ manifestDigest }) => manifestDigest));
  const versions = new Map(items.map(({ name, version }) => [`${name}:${version}`, { name, version }]));
  for (const { name, version } of versions.values()) {
    const source = storePlace(freehold.store, name);
    const index = await source.manifest({ tag: version }, signal);
    if (index === undefined) continue;
    const { manifests } = parseArtifactDocument(index.bytes, `${name}:${version}`);
    if (!manifests.every(({ digest }) => chosen.has(digest))) continue;
    await addArtifact(draft, source, name, { digest: index.digest }, version, signal);
  }
  return packages;
}

async function addArtifact(
  draft: ArchiveDraft,
  source: ArtifactSource,
  repository: string,
  reference: { readonly digest: Digest },
  tag: string,
  signal: AbortSignal,
): Promise<void> {
  const document = await source.manifest(reference, signal);
  if (document === undefined)
    throw new FreeholdError('STORE_CORRUPT', `${repository}:${tag} is not in the store`);
  await copyArtifact([source], draft.sink(repository), document, { signal, tag });
}

/**
 * What this home knows of a package's channels, in the form in which registries have it. A damaged file keeps no model from
 * travelling.
 * @returns what is wrong
 */
async function addChannels(freehold: Freehold, draft: ArchiveDraft, name: string): Promise<string[]> {
  const loaded = await channelStore(freehold)
    .load(name)
    .then((files) => ({ files }), toFreeholdError);
  if (loaded instanceof FreeholdError) {
    return [`without the channels of ${name}: ${loaded.message} [${loaded.code}]; ${loaded.hint}`];
  }
  const { files } = loaded;
  if (files === undefined) return [];
  const { manifest, blobs } = encodeChannelArtifact(files, name);
  for (const bytes of blobs) draft.addBytes(bytes, '');
  draft.addDocument(manifest, { repository: name, tag: CHANNELS_TAG });
  return [];
}

async function addProgram(
  freehold: Freehold,
  draft: ArchiveDraft,
  signal: AbortSignal,
): Promise<{ program: Digest; bytes: Buffer }> {
  freehold.progress({ kind: 'step-started', label: 'pack Freehold itself' });
  const program = await packProgram(PROGRAM_ROOT, signal);
  draft.addBlob(program, program.open);
  const bytes = restoreScript(program, blobName(program.digest));
  draft.addDocument(
    artifactOf(PROGRAM_ARTIFACT_TYPE, draft, [
      draft.addBytes(bytes, 'text/x-shellscript', RESTORE_SCRIPT_PATH),
      describe(PROGRAM_LAYER_TYPE, program, PROGRAM_LAYER_PATH),
    ]),
    { repository: '', tag: PROGRAM_TAG },
  );
  return { program: program.digest, bytes };
}

function addContents(
  draft: ArchiveDraft,
  trust: Buffer,
  facts: { packages: ArchivedPackage[]; leftOut: LeftOutBlob[]; hasProgram: boolean },
): void {
  const { packages, leftOut, hasProgram } = facts;
  const contents = encodeArchiveContents({
    formatVersion: 1,
    tool: `freehold ${FREEHOLD_VERSION}`,
    packages,
    ...(hasProgram ? { program: { version: FREEHOLD_VERSION, platform: PROGRAM_PLATFORM } } : {}),
    leftOut,
  });
  draft.addDocument(
    artifactOf(ARCHIVE_ARTIFACT_TYPE, draft, [
      draft.addBytes(contents, 'application/json', CONTENTS_PATH),
      draft.addBytes(trust, 'application/yaml', ARCHIVE_TRUST_PATH),
    ]),
    { repository: '', tag: ARCHIVE_TAG },
  );
}

/** An artifact of files. */
function artifactOf(artifactType: string, draft: ArchiveDraft, layers: OciDescriptor[]): ManifestDocument {
  draft.addBytes(EMPTY_CONFIG_BYTES, EMPTY_CONFIG.mediaType);
  return artifactManifest(artifactType, layers);
}

/** What verification reads is in every archive: documents, configs, descriptors, signatures and channels. */
async function blobsToLeaveOut(
  draft: ArchiveDraft,
  { since, signal }: SaveArchiveOptions,
): Promise<LeftOutBlob[]> {
  if (since === undefined) return [];
  const older = await openArchive(since, signal);
  try {
    const { layout } = older;
    const itself = { name: path.basename(since), id: layout.id };
    const inheritance = new Map((layout.contents?.leftOut ?? []).map((blob) => [blob.digest, blob.archive]));
    const leftOut = draftLayers(draft).flatMap((layer): LeftOutBlob[] => {
      const file = layerPath(layer);
      if (
        isChannelLayer(layer) ||
        file === DESCRIPTOR_PATH ||
        (file !== undefined && SIGNATURE_PATHS.includes(file))
      )
        return [];
      const archive = layout.blobs.has(layer.digest) ? itself : inheritance.get(layer.digest);
      if (archive === undefined) return [];
      return [{ digest: layer.digest, size: layer.size, ...(file === undefined ? {} : { file }), archive }];
    });
    return [...new Map(leftOut.map((blob) => [blob.digest, blob])).values()];
  } finally {
    await older.close();
  }
}

function draftLayers(draft: ArchiveDraft): OciDescriptor[] {
  return [...draft.documents].flatMap(({ bytes, digest }) => parseArtifactDocument(bytes, digest).layers);
}
