import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { temporaryFolder } from '../../../tests/fixtures/freehold-home.ts';
import { rawTar, soundEntries } from '../../../tests/fixtures/raw-tar.ts';
import { collectBytes } from '../../core/base/byte-source.ts';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import type { ManifestDocument } from '../../core/format/artifact-place.ts';
import { encodeJson, MEDIA_TYPE } from '../../core/format/oci.ts';
import { type Archive, openArchive } from './archive.ts';
import { ArchiveDraft, describe as describeBlob } from './archive-draft.ts';
import { type WriteArchiveOptions, writeArchive } from './archive-writer.ts';

const { signal } = new AbortController();
const WEIGHTS = Buffer.from(Array.from({ length: 300_000 }, (_, index) => (index * 7919) % 251));
const PART_BYTES = 100_000;

const code =
  (wanted: string, message = /./) =>
  (error: unknown) =>
    error instanceof FreeholdError && error.code === wanted && message.test(error.message);

function documentOf(fields: object): ManifestDocument {
  const bytes = encodeJson({ schemaVersion: 2, mediaType: MEDIA_TYPE.manifest, ...fields });
  return { bytes, digest: Digest.of(bytes), mediaType: MEDIA_TYPE.manifest };
}

/** A manifest with weights under two names, and a note that refers to it. */
function draftOf(order: 'forth' | 'back' = 'forth'): { draft: ArchiveDraft; manifest: ManifestDocument } {
  const draft = new ArchiveDraft();
  const config = draft.addBytes(Buffer.from('{}'), 'application/vnd.oci.empty.v1+json');
  const weights = draft.addBytes(WEIGHTS, MEDIA_TYPE.weight, 'w.gguf');
  const manifest = documentOf({ config, layers: [weights] });
  const subject = {
    mediaType: MEDIA_TYPE.manifest,
    digest: manifest.digest,
    size: manifest.bytes.byteLength,
  };
  const note = documentOf({ artifactType: 'application/vnd.acme.note', config, layers: [], subject });
  const steps = [
    () => draft.addDocument(manifest, { repository: 'acme/triage', tag: '1.0.0' }),
    () => draft.addDocument(manifest, { repository: 'acme/other', tag: '1.0.0' }),
    () => draft.addDocument(note),
  ];
  for (const step of order === 'forth' ? steps : steps.reverse()) step();
  return { draft, manifest };
}

async function write(file: string, options: Partial<WriteArchiveOptions> = {}, draft = draftOf().draft) {
  return writeArchive(
    file,
    draft.plan(() => false),
    { signal, ...options },
  );
}

async function withArchive<T>(file: string, work: (archive: Archive) => Promise<T>): Promise<T> {
  const archive = await openArchive(file);
  try {
    return await work(archive);
  } finally {
    await archive.close();
  }
}

describe('an archive that was written', () => {
  for (const partBytes of [undefined, PART_BYTES]) {
    test(partBytes === undefined ? 'as one file' : 'in parts', async (context) => {
      const file = path.join(await temporaryFolder(context), 'a.tar');
      const written = await write(file, partBytes === undefined ? {} : { partBytes });
      const { manifest } = draftOf();
      for (const name of written.files) {
        await withArchive(name, async (archive) => {
          await archive.check({ signal });
          const source = archive.source('acme/triage');
          assert.deepEqual(await source.tags(signal), ['1.0.0']);
          assert.deepEqual(await source.manifest({ tag: '1.0.0' }, signal), manifest);
          const blob = { digest: Digest.of(WEIGHTS), sizeBytes: WEIGHTS.byteLength };
          assert.deepEqual(await collectBytes(source.blob(blob, { startBytes: 0 }, signal), 1e6), WEIGHTS);
          const range = { startBytes: 99_000, endBytes: 201_001 };
          const part = await collectBytes(source.blob(blob, range, signal), 1e6);
          assert.deepEqual(part, WEIGHTS.subarray(99_000, 201_001));
          const [note, ...others] = await source.referrers(manifest.digest, signal);
          assert.deepEqual([note?.artifactType, others.length], ['application/vnd.acme.note', 0]);
        });
      }
      assert.deepEqual(
        (await readdir(path.dirname(file))).sort(),
        written.files.map((name) => path.basename(name)).sort(),
      );
    });
  }

  test('the same content gives the same bytes, in whatever order it came', async (context) => {
    const folder = await temporaryFolder(context);
    const [first, second] = [path.join(folder, 'a.tar'), path.join(folder, 'b.tar')];
    const { digest } = await write(first);
    const other = await write(second, {}, draftOf('back').draft);
    assert.deepEqual([await readFile(second), other.digest], [await readFile(first), digest]);
    assert.equal(digest, Digest.of(await readFile(first)));
  });

  test('parts put together are the one file', async (context) => {
    const folder = await temporaryFolder(context);
    await write(path.join(folder, 'a.tar'));
    const { files } = await write(path.join(folder, 'b.tar'), { partBytes: PART_BYTES });
    const parts = await Promise.all(files.slice(0, -1).map((name) => readFile(name)));
    assert.deepEqual(Buffer.concat(parts), await readFile(path.join(folder, 'a.tar')));
  });

  test('a tag that two repositories have needs the repository', async (context) => {
    const file = path.join(await temporaryFolder(context), 'a.tar');
    const { draft } = draftOf();
    draft.addDocument(documentOf({ layers: [] }), { repository: 'acme/third', tag: '1.0.0' });
    await write(file, {}, draft);
    await withArchive(file, async (archive) => {
      await assert.rejects(archive.source().manifest({ tag: '1.0.0' }, signal), code('REFERENCE_INVALID'));
      assert.ok(await archive.source('acme/third').manifest({ tag: '1.0.0' }, signal));
    });
  });
});

describe('writing', () => {
  test('a finished archive stays, and nothing else appears', async (context) => {
    const file = path.join(await temporaryFolder(context), 'a.tar');
    for (const options of [{}, { partBytes: PART_BYTES }]) {
      await write(file, options);
      const before = await readdir(path.dirname(file));
      await assert.rejects(write(file, options), code('ALREADY_EXISTS'));
      assert.deepEqual(await readdir(path.dirname(file)), before);
      await withArchive(file, (archive) => archive.check({ signal }));
      await rm(file, { force: true });
    }
  });

  test('what a killed run left is no archive, and is overwritten', async (context) => {
    const file = path.join(await temporaryFolder(context), 'a.tar');
    await writeFile(`${file}.partial`, 'half of it');
    await writeFile(`${file}.lock`, '');
    await assert.rejects(openArchive(file), code('NOT_FOUND'));
    for (const name of ['001', '002.partial']) await writeFile(`${file}.${name}`, 'half of it');
    await assert.rejects(openArchive(file), code('ARCHIVE_INVALID', /"a.tar.parts.json": is missing/));
    const { files } = await write(file, { partBytes: PART_BYTES });
    await withArchive(file, (archive) => archive.check({ signal }));
    await rm(`${file}.partial`);
    assert.equal((await readdir(path.dirname(file))).length, files.length);
  });

  test('a source that gives other bytes, too few or too many, leaves nothing', async (context) => {
    const file = path.join(await temporaryFolder(context), 'a.tar');
    const spoilt: [string, Buffer][] = [
      ['DIGEST_MISMATCH', Buffer.alloc(WEIGHTS.byteLength)],
      ['SIZE_MISMATCH', WEIGHTS.subarray(1)],
      ['SIZE_MISMATCH', Buffer.concat([WEIGHTS, WEIGHTS])],
    ];
    for (const [wanted, bytes] of spoilt) {
      for (const options of [{}, { partBytes: PART_BYTES }]) {
        const { draft } = draftOf();
        const blob = { digest: Digest.of(WEIGHTS), sizeBytes: WEIGHTS.byteLength };
        draft.addBlob(blob, async function* () {
          yield bytes;
        });
        await assert.rejects(write(file, options, draft), code(wanted));
        assert.deepEqual(await readdir(path.dirname(file)), []);
      }
    }
  });

  test('somebody who cancels leaves nothing', async (context) => {
    const file = path.join(await temporaryFolder(context), 'a.tar');
    const controller = new AbortController();
    const onBytes = () => controller.abort(new FreeholdError('CANCELLED', 'enough'));
    await assert.rejects(write(file, { signal: controller.signal, onBytes }), code('CANCELLED'));
    assert.deepEqual(await readdir(path.dirname(file)), []);
  });

  test('two at once: one writes, the other is told', async (context) => {
    const file = path.join(await temporaryFolder(context), 'a.tar');
    const results = await Promise.allSettled([write(file), write(file), write(file)]);
    const lost = results.filter((result) => result.status === 'rejected');
    assert.equal(lost.length, 2);
    for (const { reason } of lost) assert.ok(['BUSY', 'ALREADY_EXISTS'].includes(reason.code), reason.code);
    await withArchive(file, (archive) => archive.check({ signal }));
  });

  test('a folder that is not there, and too many parts', async (context) => {
    const folder = await temporaryFolder(context);
    await assert.rejects(write(path.join(folder, 'no', 'a.tar')), code('NOT_FOUND'));
    await assert.rejects(write(path.join(folder, 'a.tar'), { partBytes: 100 }), code('USAGE'));
    assert.deepEqual(await readdir(folder), []);
  });
});

/** An archive in four parts, and the names of its files. */
async function partedArchive(
  context: TestContext,
): Promise<{ file: string; part: (number: number) => string }> {
  const file = path.join(await temporaryFolder(context), 'a.tar');
  await write(file, { partBytes: PART_BYTES });
  return { file, part: (number) => `${file}.00${number}` };
}

describe('parts', () => {
  test('one that is missing is named', async (context) => {
    const { file, part } = await partedArchive(context);
    await rm(part(3));
    await assert.rejects(openArchive(file), code('ARCHIVE_INVALID', /"a.tar.003": is missing/));
  });

  test('one that is cut off, or too long, is named', async (context) => {
    const { file, part } = await partedArchive(context);
    await truncate(part(2), 1000);
    await assert.rejects(
      openArchive(file),
      code('ARCHIVE_INVALID', /"a.tar.002": has 1000 bytes instead of 100000/),
    );
    await truncate(part(2), 100_001);
    await assert.rejects(openArchive(file), code('ARCHIVE_INVALID', /"a.tar.002": has 100001 bytes/));
  });

  test('one that was altered is named by check, and by whoever reads a blob of it', async (context) => {
    const { file, part } = await partedArchive(context);
    const bytes = await readFile(part(2));
    bytes[50_000] = (bytes[50_000] ?? 0) ^ 1;
    await writeFile(part(2), bytes);
    await withArchive(file, async (archive) => {
      await assert.rejects(archive.check({ signal }), code('ARCHIVE_INVALID', /"part 002": was altered/));
      const found = await archive.explain(new FreeholdError('DIGEST_MISMATCH', 'w.gguf has another digest'));
      assert.ok(code('ARCHIVE_INVALID', /"part 002": was altered/)(found));
      const other = new FreeholdError('DISK_FULL', 'no room');
      assert.equal(await archive.explain(other), other);
    });
  });

  test('two that changed places are named', async (context) => {
    const { file, part } = await partedArchive(context);
    await rename(part(1), part(9));
    await rename(part(2), part(1));
    await rename(part(9), part(2));
    await assert.rejects(
      openArchive(file),
      code('ARCHIVE_INVALID', /"part 001": was altered, or is another part/),
    );
  });

  test('the list of another archive', async (context) => {
    const { file } = await partedArchive(context);
    await writeFile(`${file}.parts.json`, '{"formatVersion":1,"parts":[{"size":1,"digest":"x"}]}');
    await assert.rejects(openArchive(file), code('ARCHIVE_INVALID', /digest/));
  });
});

describe('files that are no archive', () => {
  test('a folder, a link to nowhere, nothing, and something else', async (context) => {
    const folder = await temporaryFolder(context);
    const at = (name: string) => path.join(folder, name);
    await mkdir(at('folder'));
    await symlink(at('nowhere'), at('link'));
    await writeFile(at('text'), 'hello');
    for (const name of ['folder', 'link', 'absent', 'absent.001']) {
      await assert.rejects(openArchive(at(name)), code('NOT_FOUND'), name);
    }
    await assert.rejects(openArchive(at('text')), code('ARCHIVE_INVALID'));
  });
});

test('a blob that was altered in one file is named by check', async (context) => {
  const file = path.join(await temporaryFolder(context), 'a.tar');
  await write(file);
  const bytes = await readFile(file);
  const place = bytes.indexOf(WEIGHTS.subarray(0, 100));
  bytes[place + 5] = (bytes[place + 5] ?? 0) ^ 1;
  await writeFile(file, bytes);
  await withArchive(file, async (archive) => {
    const name = new RegExp(Digest.hex(Digest.of(WEIGHTS)));
    await assert.rejects(archive.check({ signal }), code('ARCHIVE_INVALID', name));
  });
});

test('a blob that an archive speaks of and has not is missing, and says so when it is read', async (context) => {
  const file = path.join(await temporaryFolder(context), 'a.tar');
  await writeFile(file, rawTar(soundEntries().slice(0, -1)));
  await withArchive(file, async (archive) => {
    assert.deepEqual(
      archive.layout.missing.map(({ digest }) => digest),
      [Digest.of('the weights')],
    );
    const blob = { digest: Digest.of('the weights'), sizeBytes: 11 };
    const reading = collectBytes(archive.source().blob(blob, { startBytes: 0 }, signal), 100);
    await assert.rejects(reading, code('NOT_FOUND', /archive a.tar has no sha256/));
  });
});

test('a descriptor of a file carries its path for tools of both kinds', () => {
  const { annotations } = describeBlob('x', { digest: Digest.of(''), sizeBytes: 0 }, 'a.txt');
  assert.deepEqual(Object.values(annotations ?? {}), ['a.txt', 'a.txt']);
});
