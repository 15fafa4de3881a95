import { createReadStream } from 'node:fs';
import { lstat, open, readdir } from 'node:fs/promises';
import path from 'node:path';
import { collectBytes } from '../../core/base/byte-source.ts';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError, namingFile } from '../../core/base/errors.ts';
import { quoted } from '../../core/base/ids.ts';
import { BUNDLE_BYTES_MAX, SIGNATURE_PATHS } from '../../core/crypto/model-signing.ts';
import { encodePackage, type SignatureFile } from '../../core/format/modelpack.ts';
import {
  DESCRIPTOR_BYTES_MAX,
  DESCRIPTOR_PATH,
  type PackageFile,
  parsePackageDescriptor,
} from '../../core/format/package-descriptor.ts';
import { type VerifiedPackage, verifyPackage } from '../../core/format/package-verification.ts';
import { hashOpenFile } from '../../io/files/file-hash.ts';
import { memoryBlobStore } from '../../io/store/memory-blob-store.ts';
import { type ExpectedPackage, requireExpected } from './expected-package.ts';
import type { Freehold } from './freehold.ts';
import { type InstallResult, installVerified } from './install-package.ts';
import { fileError } from './local-file.ts';

/** An exported package in a plain folder, its signature verified, its files not yet hashed. */
export interface PackageFolder {
  readonly folder: string;
  readonly verified: VerifiedPackage;
  /** The small files: path and bytes of `freehold.json` and the signatures. */
  readonly documents: ReadonlyMap<string, Buffer>;
  readonly signatures: readonly SignatureFile[];
  /** Hashes every file. @throws DIGEST_MISMATCH, SIZE_MISMATCH, FILE_MISSING naming the file */
  verifyFiles(signal?: AbortSignal): Promise<void>;
}

/**
 * Reads a folder as `freehold export` writes it and verifies its signature under the home's trust policy. Manifest and
 * config follow from `freehold.json`, so a folder needs neither. Files that the package does not list are refused:
 * whoever looks into a verified folder must not find more than was signed.
 * @throws NOT_FOUND, PACKAGE_INVALID, SIGNATURE_MISSING, SIGNER_UNTRUSTED, SIGNATURE_INVALID
 */
export async function readPackageFolder(freehold: Freehold, folder: string): Promise<PackageFolder> {
  const documents = new Map<string, Buffer>();
  const read = async (name: string, bytesMax: number) => {
    const bytes = await readDocument(folder, name, bytesMax);
    if (bytes !== undefined) documents.set(name, bytes);
    return bytes;
  };
  const descriptorBytes = await read(DESCRIPTOR_PATH, DESCRIPTOR_BYTES_MAX);
  if (descriptorBytes === undefined) {
    throw new FreeholdError('NOT_FOUND', `${folder} holds no ${DESCRIPTOR_PATH}`, {
      hint: 'give the folder that freehold export made; a bare GGUF file becomes a package with freehold init model and freehold build',
    });
  }
  const descriptor = parsePackageDescriptor(descriptorBytes);
  const signatures: SignatureFile[] = [];
  for (const name of SIGNATURE_PATHS) {
    const bytes = await read(name, BUNDLE_BYTES_MAX);
    if (bytes !== undefined)
      signatures.push({ path: name, digest: Digest.of(bytes), sizeBytes: bytes.byteLength });
  }
  await requireNothingElse(folder, [...documents.keys(), ...descriptor.files.map((file) => file.path)]);
  const blobs = memoryBlobStore();
  const encoded = encodePackage(descriptor, signatures);
  for (const bytes of [...documents.values(), encoded.config.bytes, encoded.manifest.bytes])
    await blobs.write(bytes);
  const verified = await verifyPackage(blobs, encoded.manifest.digest, await freehold.home.trust.load());
  return {
    folder,
    verified,
    documents,
    signatures,
    verifyFiles: async (signal) => {
      for (const file of verified.descriptor.files) await verifyLocalFile(folder, file, signal);
    },
  };
}

/** Installs an exported package: the signature first, then every byte, and only then does it become visible. */
export async function installFromFolder(
  freehold: Freehold,
  folder: string,
  signal: AbortSignal,
  expect: ExpectedPackage = {},
): Promise<InstallResult> {
  const read = await readPackageFolder(freehold, folder);
  requireExpected(read.verified, expect);
  return installVerified(freehold, {
    verified: read.verified,
    documents: read.documents.values(),
    bring: async (files) => {
      for (const file of files) await importFile(freehold, folder, file, signal);
    },
  });
}

async function importFile(
  { store, progress }: Freehold,
  folder: string,
  file: PackageFile,
  signal: AbortSignal,
): Promise<void> {
  const label = `import ${file.path}`;
  try {
    await store.importFile(path.join(folder, file.path), {
      how: { kind: 'reflink-or-copy' },
      expect: { digest: file.digest, sizeBytes: file.size },
      signal,
      onBytes: (doneBytes) => progress({ kind: 'bytes-moved', label, doneBytes, totalBytes: file.size }),
    });
  } catch (error) {
    throw namingFile(error, file.path);
  }
}

/** @returns undefined when there is no such file */
async function readDocument(folder: string, name: string, bytesMax: number): Promise<Buffer | undefined> {
  const file = path.join(folder, name);
  const found = await lstat(file).catch(() => undefined);
  // Here already, not only among the other files: opening a named pipe waits for ever.
  if (found !== undefined && !found.isFile()) throw notPlain(folder, name);
  try {
    return await collectBytes(createReadStream(file), bytesMax);
  } catch (error) {
    const known = fileError(error, file);
    if (known.code === 'NOT_FOUND') return undefined;
    throw namingFile(known, name);
  }
}

async function requireNothingElse(folder: string, expected: readonly string[]): Promise<void> {
  const known = new Set(expected);
  const found = await readdir(folder, { recursive: true, withFileTypes: true });
  for (const item of found) {
    if (item.isDirectory()) continue;
    const name = path.relative(folder, path.join(item.parentPath, item.name)).split(path.sep).join('/');
    if (known.has(name) && item.isFile()) continue;
    if (!item.isFile()) throw notPlain(folder, name);
    throw unexpected(folder, name, 'a file that the package does not list');
  }
}

const notPlain = (folder: string, name: string) => unexpected(folder, name, 'not a plain file');

const unexpected = (folder: string, name: string, what: string) =>
  new FreeholdError('PACKAGE_INVALID', `${quoted(name)} in ${folder} is ${what}`, { detail: { file: name } });

async function verifyLocalFile(
  folder: string,
  file: { path: string; digest: Digest; size: number },
  signal?: AbortSignal,
): Promise<void> {
  const handle = await open(path.join(folder, file.path), 'r').catch((error: unknown) => {
    throw namingFile(fileError(error, file.path), file.path);
  });
  try {
    const { digest: actual, sizeBytes } = await hashOpenFile(handle, { signal });
    if (sizeBytes !== file.size) {
      throw new FreeholdError(
        'SIZE_MISMATCH',
        `${file.path} has ${sizeBytes} bytes, signed are ${file.size}`,
        {
          detail: { file: file.path, expected: file.size, actual: sizeBytes },
        },
      );
    }
    if (actual !== file.digest) {
      throw new FreeholdError(
        'DIGEST_MISMATCH',
        `${file.path} was altered: ${actual}, signed is ${file.digest}`,
        {
          detail: { file: file.path, expected: file.digest, actual },
        },
      );
    }
  } finally {
    await handle.close();
  }
}
