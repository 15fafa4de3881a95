import { createHash, type Hash } from 'node:crypto';
import { FreeholdError } from './errors.ts';

declare const digestBrand: unique symbol;

/**
 * `sha256:` and 64 lower-case hexadecimal digits. Only `Digest.parse`, `Digest.of` and `Digest.finish` make one,
 * so a path joined from its hex can never leave the folder (Ollama's CVE-2024-37032 was a digest used as a path).
 */
export type Digest = string & { readonly [digestBrand]: 'Digest' };

const PATTERN = /^sha256:[0-9a-f]{64}$/;

export const Digest = {
  /** @throws DIGEST_INVALID */
  parse(text: string): Digest {
    if (!PATTERN.test(text)) {
      throw new FreeholdError('DIGEST_INVALID', `not a digest: ${JSON.stringify(text.slice(0, 100))}`);
    }
    return text as Digest;
  },
  is(text: string): text is Digest {
    return PATTERN.test(text);
  },
  /** SHA-256 over all bytes. */
  of(bytes: Uint8Array | string): Digest {
    return `sha256:${createHash('sha256').update(bytes).digest('hex')}` as Digest;
  },
  /** Begins a streamed hash; end it with `Digest.finish`. */
  begin(): Hash {
    return createHash('sha256');
  },
  finish(hash: Hash): Digest {
    return `sha256:${hash.digest('hex')}` as Digest;
  },
  /** The 64 hexadecimal digits: the only form that may become part of a path. */
  hex(digest: Digest): string {
    return digest.slice('sha256:'.length);
  },
  /** The 32 raw bytes. */
  raw(digest: Digest): Buffer {
    return Buffer.from(Digest.hex(digest), 'hex');
  },
  /** From 64 hexadecimal digits. @throws DIGEST_INVALID */
  fromHex(hex: string): Digest {
    return Digest.parse(`sha256:${hex}`);
  },
};
