import { z } from 'zod';
import { FreeholdError } from '../base/errors.ts';
import { parseJsonDocument } from '../base/json-document.ts';
import { digestSchema } from './oci.ts';

/** FAT32 holds files up to 4 GiB − 1 byte. */
export const FAT_FILE_BYTES_MAX = 2 ** 32 - 1;
/** What to do where a file system holds no larger file. */
export const SPLIT_HINT = '--part-size 4GiB-1 splits the archive into files that FAT32 holds';
/** Three digits in the name. */
const PARTS_MAX = 999;
/** Smaller parts are a mistyped unit. */
export const PART_BYTES_MIN = 64 << 10;
/** 999 parts need about 120 kB. */
export const PARTS_LIST_BYTES_MAX = 1 << 20;

const partSchema = z.strictObject({
  size: z.int().positive().max(Number.MAX_SAFE_INTEGER),
  digest: digestSchema,
});
export type ArchivePart = z.infer<typeof partSchema>;

const partsSchema = z.strictObject({
  formatVersion: z.literal(1),
  /** In order; number one is `NAME.tar.001`. */
  parts: z.array(partSchema).min(1).max(PARTS_MAX),
});

/** `triage.tar.parts.json`: written last, so its presence means that the parts are complete. */
export function partsListName(archive: string): string {
  return `${archive}.parts.json`;
}

/** `triage.tar.001` for the first. */
export function partName(archive: string, index: number): string {
  return `${archive}.${String(index + 1).padStart(3, '0')}`;
}

/** The archive that a path of one of its parts, or of their list, belongs to. */
export function archiveOfPart(path: string): string | undefined {
  return /^(.+)\.(?:\d{3}|parts\.json)$/s.exec(path)?.[1];
}

/** One line for each part, so that people can compare it with `sha256sum`. */
export function encodePartsList(parts: readonly ArchivePart[]): Buffer {
  const lines = parts.map((part) => `    ${JSON.stringify({ size: part.size, digest: part.digest })}`);
  return Buffer.from(`{\n  "formatVersion": 1,\n  "parts": [\n${lines.join(',\n')}\n  ]\n}\n`);
}

/** @throws ARCHIVE_INVALID */
export function parsePartsList(bytes: Uint8Array, label: string): readonly ArchivePart[] {
  const { parts } = parseJsonDocument(bytes, partsSchema, {
    bytesMax: PARTS_LIST_BYTES_MAX,
    depthMax: 4,
    code: 'ARCHIVE_INVALID',
    label,
  });
  const totalBytes = parts.reduce((sum, part) => sum + part.size, 0);
  if (Number.isSafeInteger(totalBytes)) return parts;
  throw new FreeholdError('ARCHIVE_INVALID', `${label}: declares ${totalBytes} bytes`);
}

/** Sizes of the parts of so many bytes. @throws USAGE when there would be too many */
export function partSizes(totalBytes: number, partBytes: number): readonly number[] {
  const count = Math.ceil(totalBytes / partBytes);
  if (count > PARTS_MAX) {
    const least = Math.ceil(totalBytes / PARTS_MAX);
    throw new FreeholdError(
      'USAGE',
      `${count} parts of ${partBytes} bytes; at most ${PARTS_MAX} are numbered`,
      {
        hint: `--part-size ${least} or more`,
      },
    );
  }
  return Array.from({ length: count }, (_, index) => Math.min(partBytes, totalBytes - index * partBytes));
}
