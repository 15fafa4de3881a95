import { z } from 'zod';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { describeIssues } from '../../core/base/json-document.ts';
import { parseStrictJson } from '../../core/base/strict-json.ts';
import {
  encodeJson,
  JSON_DEPTH_MAX,
  MEDIA_TYPE,
  type OciDescriptor,
  ociDescriptorSchema,
} from '../../core/format/oci.ts';
import { corrupt } from './disk-error.ts';

/** Read at every start. 10,000 entries with our annotations need about 7 MB. */
export const INDEX_BYTES_MAX = 16 << 20;
/** A catalog on a big machine has hundreds; the index is rewritten at every update. */
export const ENTRIES_MAX = 10_000;

/** SHA-256 over every byte of the file before this value: it finds a flipped byte, it proves nothing to an attacker. */
const CHECKSUM_KEY = 'org.freehold.store.index.checksum';
const END = Buffer.from('"}}');
const DIGEST_CHARACTERS = 'sha256:'.length + 64;

const entriesSchema = z.array(ociDescriptorSchema).max(ENTRIES_MAX);
const indexSchema = z.strictObject({
  schemaVersion: z.literal(2),
  mediaType: z.literal(MEDIA_TYPE.index),
  manifests: entriesSchema,
  annotations: z.strictObject({ [CHECKSUM_KEY]: z.string() }),
});

/** `index.json` as an OCI image index; the checksum is its last value. */
export function encodeStoreIndex(entries: readonly OciDescriptor[]): Buffer {
  const document = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPE.index,
    manifests: entries,
    annotations: { [CHECKSUM_KEY]: '' },
  };
  const withoutChecksum = encodeJson(document);
  const covered = withoutChecksum.subarray(0, -END.byteLength);
  return Buffer.concat([covered, Buffer.from(Digest.of(covered)), END]);
}

/**
 * @param file for messages
 * @throws STORE_CORRUPT with path and reason
 */
export function parseStoreIndex(bytes: Buffer, file: string): readonly OciDescriptor[] {
  let json: unknown;
  try {
    json = parseStrictJson(bytes, {
      bytesMax: INDEX_BYTES_MAX,
      depthMax: JSON_DEPTH_MAX,
      code: 'STORE_CORRUPT',
      label: 'index.json',
    });
  } catch (thrown) {
    throw corrupt(file, thrown instanceof Error ? thrown.message : 'is not JSON', thrown);
  }
  const result = indexSchema.safeParse(json);
  if (!result.success) throw corrupt(file, describeIssues(result.error), result.error);
  const covered = bytes.subarray(0, -(DIGEST_CHARACTERS + END.byteLength));
  if (bytes.subarray(covered.byteLength).toString('latin1') !== `${Digest.of(covered)}"}}`) {
    throw corrupt(file, 'was changed by something other than Freehold, or damaged: its checksum is wrong');
  }
  return result.data.manifests;
}

/**
 * Entries that a caller made, as a reader will find them. Writing what the next start refuses (too large, half a
 * surrogate pair in an annotation) would lose everything that is installed.
 * @throws MANIFEST_INVALID
 */
export function acceptEntries(entries: readonly OciDescriptor[]): readonly OciDescriptor[] {
  const result = entriesSchema.safeParse(entries);
  if (!result.success) throw unacceptable(describeIssues(result.error), result.error);
  try {
    return parseStoreIndex(encodeStoreIndex(result.data), 'index.json');
  } catch (thrown) {
    throw unacceptable(thrown instanceof Error ? thrown.message : '', thrown);
  }
}

function unacceptable(reason: string, cause: unknown): FreeholdError {
  return new FreeholdError('MANIFEST_INVALID', `these entries cannot be kept: ${reason}`, { cause });
}
