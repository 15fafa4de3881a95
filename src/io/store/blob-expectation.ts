import type { BlobExpectation, BlobInfo } from '../../core/base/blob-store.ts';
import type { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';

/** What bytes are called in messages when the caller has no name for them. */
const UNNAMED = 'the bytes to store';

/** @throws SIZE_MISMATCH as soon as more arrives than was declared: a hostile source must not fill the disk */
export function requireSizeSoFar(sizeBytes: number, expect: BlobExpectation, name = UNNAMED): void {
  if (expect.sizeBytes === undefined || sizeBytes <= expect.sizeBytes) return;
  throw sizeMismatch(name, expect.sizeBytes, sizeBytes, 'or more');
}

/** @throws SIZE_MISMATCH, DIGEST_MISMATCH */
export function requireExpected(info: BlobInfo, expect: BlobExpectation, name = UNNAMED): void {
  if (expect.sizeBytes !== undefined && info.sizeBytes !== expect.sizeBytes) {
    throw sizeMismatch(name, expect.sizeBytes, info.sizeBytes);
  }
  if (expect.digest !== undefined && info.digest !== expect.digest) {
    throw new FreeholdError('DIGEST_MISMATCH', `${name}: ${info.digest} instead of ${expect.digest}`, {
      detail: { file: name, expected: expect.digest, actual: info.digest },
    });
  }
}

/** @throws SIZE_MISMATCH when a document is larger than its reader will hold in memory */
export function requireSmall(digest: Digest, sizeBytes: number, bytesMax: number): void {
  if (sizeBytes <= bytesMax) return;
  throw new FreeholdError('SIZE_MISMATCH', `${digest} has ${sizeBytes} bytes; at most ${bytesMax} are read`, {
    detail: { digest, actual: sizeBytes, max: bytesMax },
  });
}

/** @param suffix behind the number found: `or more` */
export function sizeMismatch(name: string, expected: number, actual: number, suffix = ''): FreeholdError {
  const found = suffix === '' ? `${actual} bytes` : `${actual} bytes ${suffix}`;
  return new FreeholdError('SIZE_MISMATCH', `${name}: ${found} instead of ${expected}`, {
    detail: { file: name, expected, actual },
  });
}
