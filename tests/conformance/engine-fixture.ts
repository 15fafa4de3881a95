import { open, stat } from 'node:fs/promises';
import path from 'node:path';
import { Digest } from '../../src/core/base/digest.ts';
import type { WeightsFile } from '../../src/core/base/engine-port.ts';
import { FreeholdError } from '../../src/core/base/errors.ts';

/** A weights file straight from a path, hashed as it is opened: what a store does, without the store. */
export function weightsFile(file: string): WeightsFile {
  const name = path.basename(file);
  return {
    name,
    open: async () => {
      const handle = await open(file, 'r');
      const hash = Digest.begin();
      for await (const part of handle.createReadStream({ autoClose: false, start: 0 }))
        hash.update(part as Buffer);
      const before = await handle.stat();
      return {
        fd: handle.fd,
        digest: Digest.finish(hash),
        sizeBytes: before.size,
        requireUnchanged: async () => {
          const now = await stat(file);
          if (now.ino !== before.ino || now.size !== before.size || now.mtimeMs !== before.mtimeMs) {
            throw new FreeholdError('DIGEST_MISMATCH', `${name} was changed`);
          }
        },
        // The handle stays reachable through this closure: collected, it would close the descriptor.
        close: () => handle.close(),
      };
    },
  };
}
