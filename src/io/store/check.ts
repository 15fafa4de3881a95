import type { BlobStore } from '../../core/base/blob-store.ts';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import type { OciDescriptor } from '../../core/format/oci.ts';
import { hashOpenFile } from '../files/file-hash.ts';
import { type BlobOwner, type Closure, findReferrers, readClosure } from './closure.ts';
import { openBlob } from './disk-blob-store.ts';
import { onDisk } from './disk-error.ts';
import { digestOfName, listFolder } from './gc.ts';
import { type Layout, verifyLayout } from './layout.ts';

/** What is wrong. The first seven are damage; the last three only take up room. */
export type CheckFindingKind =
  | 'layout-invalid'
  | 'index-invalid'
  | 'document-invalid'
  | 'missing'
  | 'truncated'
  | 'damaged'
  | 'unreadable'
  | 'unreferenced'
  | 'leftover-temporary'
  | 'wrong-name';

export interface CheckFinding {
  readonly kind: CheckFindingKind;
  readonly isDamage: boolean;
  /** Inside the store folder: `blobs/sha256/…`. */
  readonly path: string;
  /** One line for a person. */
  readonly message: string;
  /** Packages, manifests and files that it hurts, as far as known. */
  readonly owners: readonly BlobOwner[];
}

export interface CheckReport {
  readonly blobs: number;
  readonly hashedBytes: number;
  readonly findings: readonly CheckFinding[];
}

export interface CheckOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onBytes?: (doneBytes: number, totalBytes: number) => void;
}

const LEFTOVERS: readonly CheckFindingKind[] = ['unreferenced', 'leftover-temporary', 'wrong-name'];
const NO_OWNERS: readonly BlobOwner[] = [];

/**
 * Hashes every blob and compares the store with what its index says. Changes nothing.
 * @param readEntries throws STORE_CORRUPT when the index cannot be read; the blobs are hashed all the same
 * @throws PERMISSION_DENIED, CANCELLED
 */
export async function checkLayout(
  layout: Layout,
  blobs: BlobStore,
  readEntries: () => Promise<readonly OciDescriptor[]>,
  options: CheckOptions,
): Promise<CheckReport> {
  const findings: CheckFinding[] = [];
  const add = (kind: CheckFindingKind, path: string, message: string, owners = NO_OWNERS) =>
    findings.push({ kind, isDamage: !LEFTOVERS.includes(kind), path, message, owners });

  await reportCorrupt(
    () => verifyLayout(layout),
    (error) => add('layout-invalid', 'oci-layout', error.message),
  );
  const entries = await reportCorrupt(readEntries, (error) =>
    add('index-invalid', 'index.json', error.message),
  );
  const closure = await readClosure(blobs, entries ?? []);

  const names = await listFolder(layout.blobFolder);
  const present = names.map(digestOfName).filter((digest) => digest !== undefined);
  for (const name of names.filter((each) => digestOfName(each) === undefined)) {
    add('wrong-name', `blobs/sha256/${name}`, 'is not named by a sha256 digest');
  }
  const hashedBytes = await checkBlobs(layout, blobs, present, closure, add, options);
  addMissing(present, closure, add);
  // Without an index everything would be unreferenced, which nobody should act upon.
  if (entries !== undefined) await addUnreferenced(blobs, present, closure, add);
  for (const name of await listFolder(layout.tempFolder)) {
    add(
      'leftover-temporary',
      `tmp/${name}`,
      'belongs to a running install, or is left over from one that died',
    );
  }
  return { blobs: present.length, hashedBytes, findings };
}

type AddFinding = (
  kind: CheckFindingKind,
  path: string,
  message: string,
  owners?: readonly BlobOwner[],
) => void;

async function reportCorrupt<T>(
  work: () => Promise<T>,
  report: (error: FreeholdError) => void,
): Promise<T | undefined> {
  try {
    return await work();
  } catch (thrown) {
    if (!(thrown instanceof FreeholdError) || thrown.code !== 'STORE_CORRUPT') throw thrown;
    report(thrown);
    return undefined;
  }
}

async function checkBlobs(
  layout: Layout,
  blobs: BlobStore,
  present: readonly Digest[],
  closure: Closure,
  add: AddFinding,
  options: CheckOptions,
): Promise<number> {
  const totalBytes = await sumSizes(blobs, present);
  let hashedBytes = 0;
  for (const digest of present) {
    const member = closure.members.get(digest);
    const report = (kind: CheckFindingKind, message: string) =>
      add(kind, blobFile(digest), message, member?.owners);
    const done = hashedBytes;
    const onBytes = (bytes: number) => options.onBytes?.(done + bytes, totalBytes);
    const hashed = await reportCorrupt(
      () => hashBlob(layout, digest, { signal: options.signal, onBytes }),
      (error) => report('unreadable', error.message),
    );
    if (hashed === undefined) continue;
    hashedBytes += hashed.sizeBytes;
    if (hashed.digest !== digest) {
      const declared = member?.sizeBytes;
      if (declared !== undefined && hashed.sizeBytes < declared) {
        report('truncated', `has ${hashed.sizeBytes} bytes instead of ${declared}`);
      } else {
        report('damaged', `its bytes have ${hashed.digest}`);
      }
    } else if (member !== undefined && member.sizeBytes !== hashed.sizeBytes) {
      report('document-invalid', `is declared with ${member.sizeBytes} bytes and has ${hashed.sizeBytes}`);
    }
  }
  for (const { digest, owner, error } of closure.problems) {
    if (error.code === 'MANIFEST_INVALID') add('document-invalid', blobFile(digest), error.message, [owner]);
  }
  return hashedBytes;
}

async function hashBlob(layout: Layout, digest: Digest, options: Parameters<typeof hashOpenFile>[1]) {
  const handle = await openBlob(layout, digest);
  try {
    return await onDisk('read', layout.blobPath(digest), () => hashOpenFile(handle, options));
  } finally {
    await handle.close();
  }
}

async function sumSizes(blobs: BlobStore, digests: readonly Digest[]): Promise<number> {
  let sum = 0;
  for (const digest of digests) {
    const info = await reportCorrupt(
      () => blobs.info(digest),
      () => {},
    );
    sum += info?.sizeBytes ?? 0;
  }
  return sum;
}

function addMissing(present: readonly Digest[], closure: Closure, add: AddFinding): void {
  const there = new Set(present);
  for (const { digest, owners } of closure.members.values()) {
    if (!there.has(digest)) add('missing', blobFile(digest), 'is referred to and not there', owners);
  }
}

async function addUnreferenced(
  blobs: BlobStore,
  present: readonly Digest[],
  closure: Closure,
  add: AddFinding,
): Promise<void> {
  const kept = new Set(closure.members.keys());
  const candidates: Digest[] = [];
  for (const digest of present) {
    if (!kept.has(digest) && (await blobs.has(digest))) candidates.push(digest);
  }
  const { referrers } = await findReferrers(blobs, candidates, kept);
  for (const digest of candidates) {
    if (!referrers.has(digest)) add('unreferenced', blobFile(digest), 'nothing refers to it; gc removes it');
  }
}

function blobFile(digest: Digest): string {
  return `blobs/sha256/${Digest.hex(digest)}`;
}
