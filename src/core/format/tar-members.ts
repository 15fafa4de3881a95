import { FreeholdError } from '../base/errors.ts';
import { quoted } from '../base/ids.ts';
import { isZeroBlock, parseTarHeader, TAR_BLOCK_BYTES, tarPaddingBytes } from './archive-tar.ts';

export interface TarLimits {
  /** Of all bytes that come out of the stream: a compressed archive can be a bomb. */
  readonly unpackedBytesMax: number;
  readonly membersMax: number;
}

/** A plain file of an archive. */
export interface TarMember {
  /** As it stands in the archive: never a path to write to. */
  readonly name: string;
  readonly sizeBytes: number;
  /** Its bytes, once; what is not read is skipped when the next member is asked for. */
  readonly data: AsyncIterable<Uint8Array>;
}

/** Records that name or size the next entry are a few hundred bytes; other tools put times and owners there. */
const PAX_BYTES_MAX = 64 << 10;
const TYPE_OFFSET = 156;
const CHECKSUM_OFFSET = 148;
const PLAIN_FILE = 0x30;
const PAX_TYPES = ['x', 'g'];

/**
 * Walks the plain files of a tar archive of another tool, as it streams. Links, devices and sparse files are refused;
 * pax records may name and size an entry (archivers need them for files over 8 GiB), everything else in them is passed
 * over.
 * @param label for messages
 * @throws ARCHIVE_INVALID, whatever the stream throws
 */
export async function* tarMembers(
  bytes: AsyncIterable<Uint8Array>,
  limits: TarLimits,
  label: string,
): AsyncGenerator<TarMember> {
  const reader = new TarByteReader(bytes, limits.unpackedBytesMax, label);
  let overrides: PaxRecords = {};
  try {
    for (let members = 0; ; ) {
      const block = await reader.readBlock();
      if (block === undefined || isZeroBlock(block)) return;
      if (++members > limits.membersMax) throw invalid(label, `more than ${limits.membersMax} entries`);
      const type = String.fromCharCode(block[TYPE_OFFSET] ?? 0);
      if (PAX_TYPES.includes(type)) {
        const records = await readPaxRecords(reader, block, label);
        if (type === 'x') overrides = records;
        continue;
      }
      const header = parseTarHeader(block, (name, reason) => invalid(label, `${quoted(name)} ${reason}`));
      const { name = header.name, sizeBytes = header.sizeBytes } = overrides;
      overrides = {};
      if (header.kind === 'folder') continue;
      const data = reader.take(sizeBytes);
      yield { name, sizeBytes, data };
      for await (const _rest of data) void _rest;
      await reader.skip(tarPaddingBytes(sizeBytes));
    }
  } finally {
    await reader.close();
  }
}

interface PaxRecords {
  readonly name?: string;
  readonly sizeBytes?: number;
}

/** POSIX.1-2017 "pax Extended Header": lines `LENGTH KEYWORD=VALUE`, the length counting itself and the line feed. */
async function readPaxRecords(reader: TarByteReader, block: Uint8Array, label: string): Promise<PaxRecords> {
  const { sizeBytes } = parseTarHeader(asPlainFile(block), (name, reason) =>
    invalid(label, `${quoted(name)} ${reason}`),
  );
  if (sizeBytes > PAX_BYTES_MAX) throw invalid(label, `pax records of ${sizeBytes} bytes`);
  const text = (await reader.read(sizeBytes)).toString('utf8');
  await reader.skip(tarPaddingBytes(sizeBytes));
  const name = /(?:^|\n)\d+ path=([^\n\0]*)\n/.exec(text)?.[1];
  const size = /(?:^|\n)\d+ size=(\d{1,15})\n/.exec(text)?.[1];
  if (/(?:^|\n)\d+ GNU\.sparse\./.test(text)) throw invalid(label, 'a sparse file');
  return {
    ...(name === undefined ? {} : { name }),
    ...(size === undefined ? {} : { sizeBytes: Number(size) }),
  };
}

/** The same header with the type of a plain file, its checksum moved by the difference: what was wrong stays wrong. */
function asPlainFile(block: Uint8Array): Buffer {
  const copy = Buffer.from(block);
  const stated = Number.parseInt(copy.toString('latin1', CHECKSUM_OFFSET, CHECKSUM_OFFSET + 8), 8);
  const moved = stated - (copy[TYPE_OFFSET] ?? 0) + PLAIN_FILE;
  copy[TYPE_OFFSET] = PLAIN_FILE;
  if (moved >= 0) copy.write(`${moved.toString(8).padStart(6, '0')}\0 `, CHECKSUM_OFFSET, 8, 'latin1');
  return copy;
}

/** Cuts a stream of pieces of any length into what a format needs next. */
class TarByteReader {
  readonly #iterator: AsyncIterator<Uint8Array>;
  readonly #label: string;
  readonly #bytesMax: number;
  #piece: Uint8Array = new Uint8Array(0);
  #totalBytes = 0;

  constructor(bytes: AsyncIterable<Uint8Array>, bytesMax: number, label: string) {
    this.#iterator = bytes[Symbol.asyncIterator]();
    this.#bytesMax = bytesMax;
    this.#label = label;
  }

  /** @returns undefined at the end of the stream */
  async readBlock(): Promise<Buffer | undefined> {
    if (!(await this.#fill())) return undefined;
    return this.read(TAR_BLOCK_BYTES);
  }

  /** Exactly so many bytes, in memory. */
  async read(length: number): Promise<Buffer> {
    return Buffer.concat(await Array.fromAsync(this.take(length)));
  }

  async skip(length: number): Promise<void> {
    for await (const _piece of this.take(length)) void _piece;
  }

  /** The next so many bytes as they come; a second walk goes on where the first one ended. */
  take(length: number): AsyncIterable<Uint8Array> {
    let left = length;
    const next = async (): Promise<IteratorResult<Uint8Array>> => {
      if (left === 0) return { done: true, value: undefined };
      if (!(await this.#fill())) throw invalid(this.#label, 'the archive ends in the middle of a file');
      const taken = this.#piece.subarray(0, left);
      this.#piece = this.#piece.subarray(taken.byteLength);
      left -= taken.byteLength;
      return { done: false, value: taken };
    };
    return { [Symbol.asyncIterator]: () => ({ next }) };
  }

  async close(): Promise<void> {
    await this.#iterator.return?.();
  }

  /** @returns whether there are bytes */
  async #fill(): Promise<boolean> {
    while (this.#piece.byteLength === 0) {
      const { done, value } = await this.#iterator.next();
      if (done === true) return false;
      this.#totalBytes += value.byteLength;
      if (this.#totalBytes > this.#bytesMax) {
        throw invalid(this.#label, `it unpacks to more than ${this.#bytesMax} bytes`);
      }
      this.#piece = value;
    }
    return true;
  }
}

const invalid = (label: string, reason: string) =>
  new FreeholdError('ARCHIVE_INVALID', `${label}: ${reason}`);
