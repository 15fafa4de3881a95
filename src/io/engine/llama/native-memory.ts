import koffi from 'koffi';

/**
 * Memory that native code may keep a pointer to: it lies outside of V8's heap, never moves, and stays until the process
 * ends (addresses of small typed arrays go stale).
 */
export interface NativeMemory {
  readonly address: bigint;
  readonly bytes: ArrayBuffer;
}

/** Zeroed memory that is never given back: for the few buffers of a model's life. */
export function allocateNative(sizeBytes: number): NativeMemory {
  const pointer: unknown = koffi.alloc('uint8', sizeBytes);
  const bytes = koffi.view(pointer, sizeBytes);
  new Uint8Array(bytes).fill(0);
  return { address: koffi.address(pointer), bytes };
}
