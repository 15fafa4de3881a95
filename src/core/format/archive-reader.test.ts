import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  blobEntry,
  descriptorOf,
  layoutEntries,
  type RawEntry,
  rawTar,
  soundEntries,
} from '../../../tests/fixtures/raw-tar.ts';
import { type ByteSource, memoryByteSource } from '../base/byte-source.ts';
import { Digest } from '../base/digest.ts';
import { FreeholdError } from '../base/errors.ts';
import { ARCHIVE_ENTRIES_MAX } from './archive-entries.ts';
import { type ArchiveLayout, readArchive } from './archive-reader.ts';
import { encodeTarHeader, TAR_BLOCK_BYTES } from './archive-tar.ts';
import { encodeJson, MEDIA_TYPE } from './oci.ts';

const LABEL = 'archive test.tar';
const read = (bytes: Buffer): Promise<ArchiveLayout> => readArchive(memoryByteSource(bytes), LABEL);

async function refusal(bytes: Buffer): Promise<FreeholdError> {
  const outcome = await read(bytes).catch((error: unknown) => error);
  assert.ok(outcome instanceof FreeholdError, `it was read, or failed otherwise: ${String(outcome)}`);
  assert.equal(outcome.code, 'ARCHIVE_INVALID', outcome.message);
  assert.ok(outcome.message.startsWith(`${LABEL}: `), outcome.message);
  return outcome;
}

/** Sound entries, and one more that nothing refers to. */
const with1 = (extra: RawEntry) => rawTar([...soundEntries(), extra]);
/** Sound entries with the last one (the weights) changed. */
function changed(change: Partial<RawEntry>, layer?: Buffer): Buffer {
  const entries = soundEntries(layer);
  return rawTar([...entries.slice(0, -1), { ...(entries.at(-1) ?? assert.fail()), ...change }]);
}
const weightsName = soundEntries().at(-1)?.name ?? '';

test('a sound archive is read, and says where each blob lies', async () => {
  const bytes = rawTar(soundEntries());
  const { blobs, missing, index, contents } = await read(bytes);
  const entry = blobs.get(Digest.of('the weights')) ?? assert.fail();
  assert.equal(bytes.subarray(entry.offset, entry.offset + entry.sizeBytes).toString(), 'the weights');
  assert.deepEqual([blobs.size, missing.length, contents], [3, 0, undefined]);
  assert.deepEqual(index[0]?.name, { repository: '', tag: '1.0.0' });
});

describe('archives of other tools', () => {
  test('folders of the layout, "./" before names, the magic of GNU tar and padding to a record', async () => {
    const asGnu = (header: Buffer) => void header.write('ustar  \u0000', 257, 'latin1');
    const entries = soundEntries().map((entry) => ({ ...entry, name: `./${entry.name}`, change: asGnu }));
    const folders = ['./', './blobs/', './blobs/sha256/'].map((name) => ({ name, type: '5', change: asGnu }));
    const { blobs } = await read(rawTar([...folders, ...entries], Buffer.alloc(10_240)));
    assert.equal(blobs.size, 3);
  });

  test('a size in base 256', async () => {
    const size = Buffer.alloc(12);
    size[0] = 0x80;
    size.writeUInt32BE('the weights'.length, 8);
    assert.equal((await read(changed({ size }))).blobs.size, 3);
  });
});

describe('hostile names', () => {
  const cases: [attack: string, name: string, reason: RegExp][] = [
    ['an absolute name', '/etc/cron.d/job', /its name is absolute/],
    ['an absolute name of Windows', 'C:/Windows/job', /its name is absolute/],
    ['a name that leads out', '../.ssh/authorized_keys', /leads out of the archive/],
    ['a name that leads out from further below', 'blobs/../../job', /leads out of the archive/],
    ['a name that leads out on Windows', 'blobs\\..\\job', /backslash/],
    ['a control character in a name', 'index\u001b[2J', /other characters than printable ASCII/],
    ['a name that is none', '', /has no name/],
    ['a file in a folder of its own', 'extra/readme', /the layout does not refer to it/],
    ['a blob that no document names', blobEntry(Buffer.from('hidden')).name, /does not refer to it/],
    ['a blob under a name that is no digest', 'blobs/sha256/readme', /does not refer to it/],
    ['an empty part of a name', 'blobs//sha256', /does not belong/],
    ['a script that no document names', 'restore.sh', /does not refer to it/],
  ];
  for (const [attack, name, reason] of cases) {
    test(attack, async () => {
      const error = await refusal(with1({ name, bytes: Buffer.from('hidden') }));
      assert.match(error.message, reason);
      assert.equal(error.detail.entry, name);
    });
  }

  test('a name with bytes behind its NUL, which other readers take as part of it', async () => {
    const change = (header: Buffer) => void header.write('oci-layout\u0000.sh', 0, 'latin1');
    assert.match((await refusal(with1({ name: 'x', change }))).message, /bytes after the NUL in its name/);
  });

  test('a blob twice: the second would replace the first', async () => {
    const error = await refusal(with1({ name: weightsName, bytes: Buffer.from('other bytes') }));
    assert.match(error.message, /is there a second time/);
  });

  test('two names for one file: with and without "./"', async () => {
    assert.match((await refusal(with1({ name: './index.json' }))).message, /is there a second time/);
  });

  test('names that differ only by case: one file on Windows, macOS and FAT', async () => {
    const error = await refusal(with1({ name: weightsName.toUpperCase() }));
    assert.match(error.message, /differs only by case from/);
    assert.match(
      (await refusal(with1({ name: 'Index.json' }))).message,
      /differs only by case from "index.json"/,
    );
  });

  test('another folder than those of a layout', async () => {
    assert.match(
      (await refusal(with1({ name: 'lib/', type: '5' }))).message,
      /does not belong into an OCI layout/,
    );
  });
});

describe('hostile kinds of entries', () => {
  const kinds: [type: string, what: RegExp][] = [
    ['1', /a hard link/],
    ['2', /a symbolic link/],
    ['3', /a character device/],
    ['4', /a block device/],
    ['6', /a named pipe/],
    ['7', /a contiguous file/],
    ['S', /a sparse file/],
    ['x', /a pax header/],
    ['g', /a global pax header/],
    ['L', /a long name of GNU tar/],
    ['K', /a long link name of GNU tar/],
    ['Z', /of the unknown kind "Z"/],
  ];
  for (const [type, what] of kinds) {
    test(`type "${type}"`, async () => {
      const error = await refusal(with1({ name: 'odd', type, linkName: '/etc/passwd' }));
      assert.match(error.message, what);
      assert.equal(error.detail.entry, 'odd');
    });
  }

  test('a pax header that renames the next entry', async () => {
    const bytes = Buffer.from('28 path=../../outside/name\n');
    assert.match((await refusal(with1({ name: 'PaxHeaders/x', type: 'x', bytes }))).message, /a pax header/);
  });

  test('a plain file with the name of a link', async () => {
    assert.match((await refusal(changed({ linkName: '/etc/passwd' }))).message, /with the name of a link/);
  });

  test('a folder with bytes', async () => {
    const error = await refusal(with1({ name: 'blobs/', type: '5', bytes: Buffer.from('hidden') }));
    assert.match(error.message, /a folder with 6 bytes/);
  });

  test("a sparse map in the fields of GNU tar's header", async () => {
    const change = (header: Buffer) => {
      header.write('ustar  \u0000', 257, 'latin1');
      header.write('00000001000\u000000000001000\u0000', 386, 'latin1');
    };
    assert.match((await refusal(changed({ change }))).message, /fields of GNU tar/);
  });
});

describe('hostile sizes', () => {
  const baseSize = (value: bigint, first = 0x80) => {
    const size = Buffer.alloc(12);
    size.writeBigUInt64BE(value, 4);
    size[0] = first;
    return size;
  };

  test('a size past the end of the archive, also one of exabytes, allocates nothing', async () => {
    for (const value of [1_000_000n, 2n ** 40n, BigInt(Number.MAX_SAFE_INTEGER) - 4096n]) {
      const heldBytes = process.memoryUsage.rss();
      assert.match((await refusal(changed({ size: baseSize(value) }))).message, /declares \d+ bytes, and/);
      assert.ok(process.memoryUsage.rss() - heldBytes < 64 << 20);
    }
  });

  test('sizes that no number holds, negative ones, and text', async () => {
    const sizes = [baseSize(2n ** 63n), baseSize(2n ** 64n - 1n, 0xff), Buffer.from('-0000000012\u0000')];
    for (const size of [...sizes, Buffer.from('0x0000000b \u0000'), Buffer.alloc(12)]) {
      assert.match((await refusal(changed({ size }))).message, /its size cannot be read/);
    }
  });

  test('more or fewer bytes than the documents declare', async () => {
    for (const bytes of [Buffer.from('the weights and more'), Buffer.from('the')]) {
      const error = await refusal(changed({ bytes }));
      assert.match(error.message, /has \d+ bytes, and a document says 11/);
      assert.equal(error.detail.entry, weightsName);
    }
  });

  test('an index.json that is a bomb', async () => {
    const bytes = Buffer.alloc(5 << 20, ' ');
    const entries = soundEntries().map((entry) =>
      entry.name === 'index.json' ? { ...entry, bytes } : entry,
    );
    assert.match((await refusal(rawTar(entries))).message, /"index.json": has 5242880 bytes; at most/);
  });

  test('something hidden in the padding behind a file', async () => {
    assert.match((await refusal(changed({ padding: 0x41 }))).message, /has bytes after its end/);
  });
});

describe('broken archives', () => {
  test('a wrong checksum', async () => {
    const spoil = (header: Buffer) => void header.write('000000', 148, 'latin1');
    assert.match((await refusal(changed({ spoil }))).message, /the checksum of its header is wrong/);
  });

  test('one changed byte in any header, or in a document, is found', async () => {
    const bytes = rawTar(soundEntries());
    const { entries } = await read(bytes);
    const flips = fc.tuple(
      fc.constantFrom(...entries),
      fc.nat(TAR_BLOCK_BYTES - 1),
      fc.integer({ min: 1, max: 255 }),
    );
    await fc.assert(
      fc.asyncProperty(flips, async ([entry, at, bits]) => {
        const altered = Buffer.from(bytes);
        const place = entry.offset - TAR_BLOCK_BYTES + at;
        altered[place] = (altered[place] ?? 0) ^ bits;
        // In the checksum itself a digit may become a blank that means the same.
        if (at >= 148 && at < 156) await read(altered).catch(() => refusal(altered));
        else await refusal(altered);
      }),
      { numRuns: 300 },
    );
  });

  test('cut off anywhere', async () => {
    const bytes = rawTar(soundEntries());
    for (let length = 0; length < bytes.byteLength; length += 128) await refusal(bytes.subarray(0, length));
    assert.match((await refusal(bytes.subarray(0, bytes.length - 1))).message, /is cut off in its end mark/);
  });

  test('a second archive behind the end of the first', async () => {
    const end = Buffer.concat([Buffer.alloc(1024), rawTar([{ name: 'index.json' }])]);
    assert.match((await refusal(rawTar(soundEntries(), end))).message, /something else than zeros follows/);
    assert.match(
      (await refusal(rawTar(soundEntries(), Buffer.alloc(3 << 20)))).message,
      /bytes follow its end/,
    );
  });

  test('no tar at all', async () => {
    await refusal(Buffer.from('PK\u0003\u0004'.padEnd(2048, 'x')));
    await refusal(Buffer.alloc(0));
    assert.match((await refusal(Buffer.alloc(1024))).message, /"oci-layout": is missing/);
  });

  test('a layout without its parts, or of a version to come', async () => {
    for (const name of ['oci-layout', 'index.json']) {
      const entries = soundEntries().filter((entry) => entry.name !== name);
      assert.match((await refusal(rawTar(entries))).message, new RegExp(`"${name}": is missing`));
    }
    const bytes = Buffer.from('{"imageLayoutVersion":"2.0.0"}');
    const entries = soundEntries().map((entry) =>
      entry.name === 'oci-layout' ? { ...entry, bytes } : entry,
    );
    assert.match((await refusal(rawTar(entries))).message, /not of an OCI layout 1.0.0/);
  });

  test('a document whose bytes are others', async () => {
    const [layout, index, manifest, ...blobs] = soundEntries();
    assert.ok(layout !== undefined && index !== undefined && manifest?.bytes !== undefined);
    const bytes = Buffer.from(manifest.bytes);
    bytes[20] = 0x7a;
    assert.match(
      (await refusal(rawTar([layout, index, { ...manifest, bytes }, ...blobs]))).message,
      /was altered/,
    );
  });

  test('a document that is not one', async () => {
    const bytes = Buffer.from('{"layers":17}');
    const entries = layoutEntries([{ bytes, mediaType: MEDIA_TYPE.manifest, tag: 'x' }], []);
    assert.match((await refusal(rawTar(entries))).message, /layers/);
  });
});

describe('attacks by numbers', () => {
  test('indexes inside of indexes without end', async () => {
    let inner = Buffer.from(encodeJson({ schemaVersion: 2, mediaType: MEDIA_TYPE.index, manifests: [] }));
    const blobs: Buffer[] = [];
    for (let depth = 0; depth < 12; depth++) {
      blobs.push(inner);
      const manifests = [descriptorOf(inner, MEDIA_TYPE.index)];
      inner = Buffer.from(encodeJson({ schemaVersion: 2, mediaType: MEDIA_TYPE.index, manifests }));
    }
    const entries = layoutEntries([{ bytes: inner, mediaType: MEDIA_TYPE.index, tag: 'deep' }], blobs);
    assert.match((await refusal(rawTar(entries))).message, /more than 8 deep/);
  });

  test('documents that speak of more blobs than anybody has', async () => {
    const documents = Array.from({ length: 21 }, (_, number) => {
      const layers = Array.from({ length: 10_000 }, (_, index) => ({
        mediaType: 'x',
        digest: `sha256:${(number * 10_000 + index).toString(16).padStart(64, '0')}`,
        size: 1,
      }));
      return { bytes: encodeJson({ layers }), mediaType: MEDIA_TYPE.manifest, tag: `t${number}` };
    });
    assert.match((await refusal(rawTar(layoutEntries(documents, [])))).message, /200000 blobs/);
  });

  test('more entries than are read', async () => {
    const error = await readArchive(endlessEntries(), LABEL).catch((thrown: unknown) => thrown);
    assert.ok(error instanceof FreeholdError && error.code === 'ARCHIVE_INVALID', String(error));
    assert.match(error.message, new RegExp(`the ${ARCHIVE_ENTRIES_MAX} entries that are read`));
  });
});

/** Ten times as many empty blobs as are read, made when they are asked for. */
function endlessEntries(): ByteSource {
  return {
    sizeBytes: ARCHIVE_ENTRIES_MAX * 10 * TAR_BLOCK_BYTES,
    async read(offset, length) {
      if (length === 0) return Buffer.alloc(0);
      assert.equal(length, TAR_BLOCK_BYTES);
      const hex = (offset / TAR_BLOCK_BYTES).toString(16).padStart(64, '0');
      return encodeTarHeader({ name: `blobs/sha256/${hex}`, sizeBytes: 0 });
    },
  };
}

test('random changes of an archive never crash or hang the reader', async () => {
  const bytes = rawTar(soundEntries());
  const change = fc.record({
    at: fc.nat(bytes.length - 1),
    what: fc.uint8Array({ minLength: 1, maxLength: 24 }),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(change, { minLength: 1, maxLength: 6 }),
      fc.nat(bytes.length),
      fc.boolean(),
      async (changes, length, isMended) => {
        const altered = Buffer.from(bytes);
        for (const { at, what } of changes) altered.set(what.subarray(0, altered.length - at), at);
        if (isMended) mendChecksums(altered);
        const source = memoryByteSource(length % 4 === 0 ? altered.subarray(0, length) : altered);
        await readArchive(source, LABEL).catch((error: unknown) => {
          assert.ok(error instanceof FreeholdError && error.code === 'ARCHIVE_INVALID', String(error));
        });
      },
    ),
    { numRuns: 2000 },
  );
});

/** A header is found by its checksum; with it right, what is behind the first check is reached as well. */
function mendChecksums(bytes: Buffer): void {
  for (let offset = 0; offset + 512 <= bytes.length; offset += 512) {
    const header = bytes.subarray(offset, offset + 512);
    if (header.subarray(257, 262).toString('latin1') !== 'ustar') continue;
    header.write(' '.repeat(8), 148, 'latin1');
    const sum = header.reduce((total, byte) => total + byte, 0);
    header.write(`${sum.toString(8).padStart(6, '0')}\u0000 `, 148, 'latin1');
  }
}
