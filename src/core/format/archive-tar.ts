import { FreeholdError } from '../base/errors.ts';
import { quoted } from '../base/ids.ts';

/** POSIX.1-1988 ustar: headers and data come in blocks of this size. */
export const TAR_BLOCK_BYTES = 512;
/** Two blocks of zeros end a tar archive (POSIX.1-2017, "pax", "ustar Interchange Format"). */
export const TAR_END_BYTES = 2 * TAR_BLOCK_BYTES;

/** 1980-01-01T00:00:00Z, in seconds: the first moment that FAT knows, and one and the same for every entry. */
const MODIFIED_SECONDS = 315_532_800;
/** Eleven octal digits; larger sizes are written in base 256, which GNU tar, libarchive, Go and busybox read. */
const OCTAL_SIZE_MAX = 0o77777777777;

const FIELD = {
  name: [0, 100],
  mode: [100, 8],
  userId: [108, 8],
  groupId: [116, 8],
  size: [124, 12],
  modified: [136, 12],
  checksum: [148, 8],
  type: [156, 1],
  linkName: [157, 100],
  magic: [257, 8],
  prefix: [345, 155],
  /** POSIX: the prefix ends here. GNU keeps times, sparse maps and real sizes from the prefix on. */
  rest: [500, 12],
} as const satisfies Record<string, readonly [offset: number, length: number]>;

const POSIX_MAGIC = 'ustar\u000000';
const GNU_MAGIC = 'ustar  \u0000';

/** Kinds of entries that are refused, by the name under which people know them. */
const REFUSED_TYPES: Readonly<Record<string, string>> = {
  '1': 'a hard link',
  '2': 'a symbolic link',
  '3': 'a character device',
  '4': 'a block device',
  '6': 'a named pipe',
  '7': 'a contiguous file',
  g: 'a global pax header',
  x: 'a pax header',
  K: 'a long link name of GNU tar',
  L: 'a long name of GNU tar',
  S: 'a sparse file',
};

/** What a header says of its entry. */
export interface TarHeader {
  /** As it stands there; nothing about it has been checked but that it ends. */
  readonly name: string;
  readonly kind: 'file' | 'folder';
  readonly sizeBytes: number;
}

export interface TarFile {
  /** ASCII; at most 100 bytes after the last `/` that leaves at most 155 before. */
  readonly name: string;
  readonly sizeBytes: number;
  readonly isExecutable?: boolean;
}

/** Zeros that follow so many bytes of data. */
export function tarPaddingBytes(sizeBytes: number): number {
  return (TAR_BLOCK_BYTES - (sizeBytes % TAR_BLOCK_BYTES)) % TAR_BLOCK_BYTES;
}

/** Header, data and padding of an entry. */
export function tarEntryBytes(sizeBytes: number): number {
  return TAR_BLOCK_BYTES + sizeBytes + tarPaddingBytes(sizeBytes);
}

/**
 * The header of a plain file, a pure function of name, size and mode: owner root, one fixed time.
 * @throws NAME_INVALID when the name is too long for ustar
 */
export function encodeTarHeader({ name, sizeBytes, isExecutable = false }: TarFile): Buffer {
  const block = Buffer.alloc(TAR_BLOCK_BYTES);
  const { prefix, rest } = splitName(name);
  writeText(block, FIELD.name, rest);
  writeText(block, FIELD.prefix, prefix);
  writeOctal(block, FIELD.mode, isExecutable ? 0o755 : 0o644);
  writeOctal(block, FIELD.userId, 0);
  writeOctal(block, FIELD.groupId, 0);
  writeSize(block, sizeBytes);
  writeOctal(block, FIELD.modified, MODIFIED_SECONDS);
  writeText(block, FIELD.type, '0');
  writeText(block, FIELD.magic, POSIX_MAGIC);
  const sum = checksumOf(block).toString(8).padStart(6, '0');
  writeText(block, FIELD.checksum, `${sum}\u0000 `);
  return block;
}

function splitName(name: string): { prefix: string; rest: string } {
  const [nameMax, prefixMax] = [FIELD.name[1], FIELD.prefix[1]];
  if (/[^\u0020-\u007e]/.test(name)) throw tooOdd(name, 'has other characters than printable ASCII');
  if (name.length <= nameMax) return { prefix: '', rest: name };
  const slash = name.indexOf('/', name.length - nameMax - 1);
  if (slash < 0 || slash > prefixMax || slash === name.length - 1) throw tooOdd(name, 'is too long');
  return { prefix: name.slice(0, slash), rest: name.slice(slash + 1) };
}

const tooOdd = (name: string, why: string) =>
  new FreeholdError('NAME_INVALID', `the name ${quoted(name)} ${why} for a tar archive`);

type Field = readonly [offset: number, length: number];

function writeText(block: Buffer, [offset, length]: Field, text: string): void {
  block.write(text, offset, length, 'latin1');
}

function writeOctal(block: Buffer, [offset, length]: Field, value: number): void {
  block.write(value.toString(8).padStart(length - 1, '0'), offset, length - 1, 'latin1');
}

function writeSize(block: Buffer, sizeBytes: number): void {
  if (sizeBytes <= OCTAL_SIZE_MAX) {
    writeOctal(block, FIELD.size, sizeBytes);
    return;
  }
  const [offset, length] = FIELD.size;
  block.writeBigUInt64BE(BigInt(sizeBytes), offset + length - 8);
  block[offset] = 0x80;
}

/** @returns whether a block is all zeros: the end, not an entry */
export function isZeroBlock(block: Uint8Array): boolean {
  return block.every((byte) => byte === 0);
}

/**
 * Reads one header, strictly: what two readers could take differently (a name with bytes after its NUL, signed sums,
 * GNU fields in the place of a prefix, pax records that rename or resize the next entry) is refused.
 * @param refuse makes the error; gets the entry's name as far as it can be read, and the reason
 */
export function parseTarHeader(
  block: Uint8Array,
  refuse: (name: string, reason: string) => FreeholdError,
): TarHeader {
  const bytes = Buffer.from(block.buffer, block.byteOffset, block.byteLength);
  const shown = textBefore(fieldOf(bytes, FIELD.name), 0);
  const no = (reason: string) => refuse(shown, reason);
  const sum = octalOf(fieldOf(bytes, FIELD.checksum));
  if (sum === undefined || sum !== checksumOf(bytes)) throw no('the checksum of its header is wrong');
  const magic = fieldOf(bytes, FIELD.magic).toString('latin1');
  if (magic !== POSIX_MAGIC && magic !== GNU_MAGIC) throw no('its header is not of the ustar format');
  const type = fieldOf(bytes, FIELD.type).toString('latin1');
  const kind = type === '0' || type === '\u0000' ? 'file' : type === '5' ? 'folder' : undefined;
  if (kind === undefined) {
    throw no(`is ${REFUSED_TYPES[type] ?? `of the unknown kind ${quoted(type)}`}, not a plain file`);
  }
  const name = fullName(bytes, magic, no);
  if (!isZeroBlock(fieldOf(bytes, FIELD.linkName))) throw no('a plain file with the name of a link');
  const sizeBytes = sizeOf(fieldOf(bytes, FIELD.size));
  if (sizeBytes === undefined) throw no('its size cannot be read');
  if (kind === 'folder' && sizeBytes !== 0) throw no(`a folder with ${sizeBytes} bytes`);
  return { name, kind, sizeBytes };
}

function fullName(bytes: Buffer, magic: string, no: (reason: string) => FreeholdError): string {
  const prefix = fieldOf(bytes, FIELD.prefix);
  const isOfGnu = magic === GNU_MAGIC && !isZeroBlock(prefix);
  if (isOfGnu || !isZeroBlock(fieldOf(bytes, FIELD.rest))) {
    throw no('has fields of GNU tar (times, a sparse map) in its header');
  }
  const [before, name] = [terminated(prefix), terminated(fieldOf(bytes, FIELD.name))];
  if (before === undefined || name === undefined) throw no('has bytes after the NUL in its name');
  return before === '' ? name : `${before}/${name}`;
}

const fieldOf = (bytes: Buffer, [offset, length]: Field) => bytes.subarray(offset, offset + length);

/** The text up to the first NUL; undefined when something else follows it. */
function terminated(field: Buffer): string | undefined {
  const end = field.indexOf(0);
  if (end === -1) return field.toString('latin1');
  return isZeroBlock(field.subarray(end)) ? textBefore(field, 0) : undefined;
}

function textBefore(field: Buffer, stop: number): string {
  const end = field.indexOf(stop);
  return field.subarray(0, end === -1 ? field.length : end).toString('latin1');
}

/** @returns undefined when it is not an octal number */
function octalOf(field: Buffer): number | undefined {
  const [, digits] = /^ *([0-7]+)[\u0000 ]*$/.exec(field.toString('latin1')) ?? [];
  return digits === undefined ? undefined : Number.parseInt(digits, 8);
}

/** Octal, or GNU's base 256: the top bit set, then a big-endian number. Negative ones, and those beyond 2⁵³, are none. */
function sizeOf(field: Buffer): number | undefined {
  if ((field[0] ?? 0) < 0x80) return octalOf(field);
  if (field[0] !== 0x80 || field.readUIntBE(1, 3) !== 0) return undefined;
  const value = field.readBigUInt64BE(4);
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : undefined;
}

/** Of all bytes as unsigned numbers, those of the checksum counted as blanks. */
function checksumOf(block: Uint8Array): number {
  const [start, length] = FIELD.checksum;
  let sum = 0;
  for (const [index, byte] of block.entries()) {
    sum += index >= start && index < start + length ? 0x20 : byte;
  }
  return sum;
}
