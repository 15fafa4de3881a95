import { Digest } from '../base/digest.ts';
import { FreeholdError } from '../base/errors.ts';
import { parseStrictJson } from '../base/strict-json.ts';
import { parseArtifactDocument } from './artifact-documents.ts';
import { ANNOTATION, encodeJson, MEDIA_TYPE, type OciDescriptor } from './oci.ts';

/** OCI image specification 1.1, "image-layout.md". */
export const LAYOUT_FILE = 'oci-layout';
export const INDEX_FILE = 'index.json';
/** Other tools write the same with blanks; nothing else belongs into it. */
export const LAYOUT_FILE_BYTES_MAX = 1024;

const TAG = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;
const REPOSITORY = /^[A-Za-z0-9][A-Za-z0-9._:/-]{0,254}$/;
const FALLBACK_TAG = /^sha256-[0-9a-f]{64}$/;

/** What a layout calls a document: `1.4.0`, or with its repository, `acme/triage:1.4.0`. */
export interface LayoutName {
  /** Empty where the layout is of one repository, and says only the tag. */
  readonly repository: string;
  readonly tag: string;
}

/** A descriptor of a layout's `index.json`. */
export interface LayoutEntry {
  readonly descriptor: OciDescriptor;
  /** Undefined for an entry without a name, or with one that no registry would take as a tag. */
  readonly name: LayoutName | undefined;
}

export function blobName(digest: Digest): string {
  return `blobs/sha256/${Digest.hex(digest)}`;
}

/** The bytes of `oci-layout`: the version of the layout, not of the specification. */
export function encodeLayoutFile(): Buffer {
  return encodeJson({ imageLayoutVersion: '1.0.0' });
}

/** @throws ARCHIVE_INVALID */
export function verifyLayoutFile(bytes: Uint8Array, label: string): void {
  const json = parseStrictJson(bytes, {
    bytesMax: LAYOUT_FILE_BYTES_MAX,
    depthMax: 2,
    code: 'ARCHIVE_INVALID',
    label: `${label}: ${LAYOUT_FILE}`,
  });
  const version = typeof json === 'object' && json !== null && 'imageLayoutVersion' in json;
  if (version && json.imageLayoutVersion === '1.0.0') return;
  throw new FreeholdError('ARCHIVE_INVALID', `${label}: ${LAYOUT_FILE} is not of an OCI layout 1.0.0`);
}

/** Reads `index.json` of any tool. @throws MANIFEST_INVALID */
export function parseLayoutIndex(bytes: Uint8Array, label: string): readonly LayoutEntry[] {
  return parseArtifactDocument(bytes, `${label}: ${INDEX_FILE}`).manifests.map((descriptor) => ({
    descriptor,
    name: parseLayoutName(descriptor.annotations?.[ANNOTATION.refName]),
  }));
}

/** `1.4.0`, `acme/triage:1.4.0`, or as some tools write it, `registry.acme.example:5000/acme/triage:1.4.0`. */
function parseLayoutName(text: string | undefined): LayoutName | undefined {
  if (text === undefined) return undefined;
  if (TAG.test(text)) return { repository: '', tag: text };
  const colon = text.lastIndexOf(':');
  const [repository, tag] = [text.slice(0, colon), text.slice(colon + 1)];
  return colon > 0 && TAG.test(tag) && REPOSITORY.test(repository) ? { repository, tag } : undefined;
}

export function encodeLayoutName({ repository, tag }: LayoutName): string {
  return repository === '' ? tag : `${repository}:${tag}`;
}

/** The repositories of which a layout names something, sorted; `''` where names are tags only. */
export function layoutRepositories(entries: readonly LayoutEntry[]): readonly string[] {
  return [...new Set(entries.flatMap(({ name }) => name?.repository ?? []))].sort();
}

export function isFallbackTag(tag: string): boolean {
  return FALLBACK_TAG.test(tag);
}

/** The index under a fallback tag, in the order of the digests: one set of referrers has one index. */
export function encodeReferrersIndex(referrers: readonly OciDescriptor[]): Buffer {
  const manifests = referrers.toSorted((left, right) => (left.digest < right.digest ? -1 : 1));
  return encodeJson({ schemaVersion: 2, mediaType: MEDIA_TYPE.index, manifests });
}
