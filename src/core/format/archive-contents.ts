import { z } from 'zod';
import { parseJsonDocument } from '../base/json-document.ts';
import { digestSchema, encodeJson, JSON_DEPTH_MAX, sizeSchema } from './oci.ts';
import { packageNameSchema, variantNameSchema, versionSchema } from './package-descriptor.ts';

/** Of the artifact that says what an archive holds; it has the tag `freehold-archive`. */
export const ARCHIVE_ARTIFACT_TYPE = 'application/vnd.freehold.archive.v1+json';
export const ARCHIVE_TAG = 'freehold-archive';
/** Files of that artifact. */
export const CONTENTS_PATH = 'archive.json';
export const ARCHIVE_TRUST_PATH = 'trust.yaml';

/** Of Freehold itself in an archive; it has the tag `freehold-program`. */
export const PROGRAM_ARTIFACT_TYPE = 'application/vnd.freehold.program.v1';
export const PROGRAM_TAG = 'freehold-program';
/** Unpacks the program on a machine that has only a shell; lies in the root of the archive as well. */
export const RESTORE_SCRIPT_PATH = 'restore.sh';
export const RESTORE_SCRIPT_BYTES_MAX = 64 << 10;
export const PROGRAM_LAYER_PATH = 'freehold.tar';
export const PROGRAM_LAYER_TYPE = 'application/vnd.oci.image.layer.v1.tar';

/** 20,000 entries that were left out need about 5 MB. */
export const CONTENTS_BYTES_MAX = 8 << 20;

const earlierArchiveSchema = z.strictObject({
  /** As it was called when this one was written; people look for it under this name. */
  name: z.string().min(1).max(255),
  /** Digest of its `index.json`. */
  id: digestSchema,
});
export type EarlierArchive = z.infer<typeof earlierArchiveSchema>;

const leftOutSchema = z.strictObject({
  digest: digestSchema,
  size: sizeSchema,
  file: z.string().min(1).max(255).optional(),
  archive: earlierArchiveSchema,
});
export type LeftOutBlob = z.infer<typeof leftOutSchema>;

const packageSchema = z.strictObject({
  name: packageNameSchema,
  version: versionSchema,
  variant: variantNameSchema,
  manifest: digestSchema,
  content: digestSchema,
  /** Not in use in the home that wrote this, and why; a hint, which can only keep a version out of use. */
  held: z.string().min(1).max(32).optional(),
});
export type ArchivedPackage = z.infer<typeof packageSchema>;

const contentsSchema = z.strictObject({
  formatVersion: z.literal(1),
  tool: z.string().min(1).max(100),
  packages: z.array(packageSchema).max(10_000),
  program: z.strictObject({ version: z.string().max(64), platform: z.string().max(64) }).optional(),
  leftOut: z.array(leftOutSchema).max(20_000),
});

/**
 * `archive.json`: what an archive holds, for people and for `restore`. Nothing in it is trusted: each package is verified
 * by its own signature, each blob by its digest.
 */
export type ArchiveContents = z.infer<typeof contentsSchema>;

export function encodeArchiveContents(contents: ArchiveContents): Buffer {
  return encodeJson(contents);
}

/** @throws ARCHIVE_INVALID */
export function parseArchiveContents(bytes: Uint8Array, label: string): ArchiveContents {
  const name = `${label}: ${CONTENTS_PATH}`;
  return parseJsonDocument(bytes, contentsSchema, {
    bytesMax: CONTENTS_BYTES_MAX,
    depthMax: JSON_DEPTH_MAX,
    code: 'ARCHIVE_INVALID',
    label: name,
  });
}
