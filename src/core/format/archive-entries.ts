import type { ByteSource } from '../base/byte-source.ts';
import { FreeholdError } from '../base/errors.ts';
import { quoted } from '../base/ids.ts';
import {
  isZeroBlock,
  parseTarHeader,
  TAR_BLOCK_BYTES,
  TAR_END_BYTES,
  tarPaddingBytes,
} from './archive-tar.ts';

/** 50 GB of packages have a few hundred entries; thousands of variants of small models fit as well. */
export const ARCHIVE_ENTRIES_MAX = 20_000;
/** GNU tar fills its last record with zeros: 10 KiB by default, 1 MiB with the largest factor in use. */
const END_PADDING_BYTES_MAX = 1 << 20;

/** A plain file of the archive, and where its bytes lie. */
export interface ArchiveEntry {
  readonly name: string;
  readonly offset: number;
  readonly sizeBytes: number;
}

/** The refusal of an archive, or of one of its entries. */
export function archiveInvalid(label: string, name: string | undefined, reason: string): FreeholdError {
  const entry = name === undefined ? '' : `${quoted(name)}: `;
  return new FreeholdError('ARCHIVE_INVALID', `${label}: ${entry}${reason}`, {
    hint: 'copy the archive again from where it was written; freehold archive verify says whether a copy is whole',
    detail: { archive: label, entry: name ?? null, reason },
  });
}

/**
 * Reads the headers of a tar archive and where its files lie; of their bytes it reads nothing. Memory is in proportion to
 * the number of entries, whatever sizes they declare.
 * @param label for messages
 * @throws ARCHIVE_INVALID naming the entry and the reason
 */
export async function readArchiveEntries(
  source: ByteSource,
  label: string,
  signal?: AbortSignal,
): Promise<readonly ArchiveEntry[]> {
  const entries: ArchiveEntry[] = [];
  const names = new Names(label);
  for (let offset = 0; ; ) {
    signal?.throwIfAborted();
    if (offset + TAR_BLOCK_BYTES > source.sizeBytes) {
      throw archiveInvalid(label, undefined, `is cut off: no end mark up to byte ${source.sizeBytes}`);
    }
    const block = await source.read(offset, TAR_BLOCK_BYTES);
    if (isZeroBlock(block)) {
      await verifyEnd(source, offset, label);
      return entries;
    }
    const header = parseTarHeader(block, (name, reason) => archiveInvalid(label, name, reason));
    const name = names.take(header.name, header.kind);
    const dataOffset = offset + TAR_BLOCK_BYTES;
    const endOffset = dataOffset + header.sizeBytes;
    offset = endOffset + tarPaddingBytes(header.sizeBytes);
    if (offset > source.sizeBytes) {
      const left = source.sizeBytes - dataOffset;
      throw archiveInvalid(
        label,
        name,
        `declares ${header.sizeBytes} bytes, and ${left} are left in the archive`,
      );
    }
    // What a padding hides, no digest covers.
    if (!isZeroBlock(await source.read(endOffset, offset - endOffset))) {
      throw archiveInvalid(label, name, 'has bytes after its end');
    }
    if (header.kind === 'file') entries.push({ name, offset: dataOffset, sizeBytes: header.sizeBytes });
  }
}

/** The end mark, and nothing but zeros behind it: other readers would go on there. */
async function verifyEnd(source: ByteSource, offset: number, label: string): Promise<void> {
  const length = source.sizeBytes - offset;
  if (length < TAR_END_BYTES) throw archiveInvalid(label, undefined, 'is cut off in its end mark');
  if (length > TAR_END_BYTES + END_PADDING_BYTES_MAX) {
    throw archiveInvalid(label, undefined, `${length - TAR_END_BYTES} bytes follow its end`);
  }
  if (!isZeroBlock(await source.read(offset, length))) {
    throw archiveInvalid(label, undefined, 'something else than zeros follows its end');
  }
}

/** Folders that other tools write into a tar of a layout; they say nothing. */
const LAYOUT_FOLDERS: readonly string[] = ['', 'blobs', 'blobs/sha256'];

/** The names so far. A file system that ignores case would let the second of two names overwrite the first. */
class Names {
  readonly #label: string;
  readonly #taken = new Map<string, string>();

  constructor(label: string) {
    this.#label = label;
  }

  /** @returns the name without a leading `./` and a trailing `/` of a folder @throws ARCHIVE_INVALID */
  take(raw: string, kind: 'file' | 'folder'): string {
    const reason = whyRefused(raw);
    if (reason !== undefined) throw archiveInvalid(this.#label, raw, reason);
    const plain = raw.replace(/^(?:\.\/)+/, '').replace(/^\.$/, '');
    const name = kind === 'folder' ? plain.replace(/\/$/, '') : plain;
    if (kind === 'folder' ? !LAYOUT_FOLDERS.includes(name) : name.split('/').some((part) => part === '')) {
      throw archiveInvalid(this.#label, raw, 'does not belong into an OCI layout');
    }
    const other = this.#taken.get(name.toLowerCase());
    if (other !== undefined) {
      const why = other === name ? 'is there a second time' : `differs only by case from ${quoted(other)}`;
      throw archiveInvalid(this.#label, raw, why);
    }
    if (this.#taken.size >= ARCHIVE_ENTRIES_MAX) {
      throw archiveInvalid(
        this.#label,
        raw,
        `one more than the ${ARCHIVE_ENTRIES_MAX} entries that are read`,
      );
    }
    this.#taken.set(name.toLowerCase(), name);
    return name;
  }
}

/** Names that lead elsewhere on some system. Whatever else is no name of the layout is refused later as unreferenced. */
function whyRefused(name: string): string | undefined {
  if (name === '') return 'has no name';
  if (/[^\u0020-\u007e]/.test(name)) return 'its name has other characters than printable ASCII';
  if (name.startsWith('/') || /^[A-Za-z]:/.test(name)) return 'its name is absolute';
  if (name.includes('\\')) return 'its name has a backslash';
  if (name.split('/').includes('..')) return 'its name leads out of the archive ("..")';
  return undefined;
}
