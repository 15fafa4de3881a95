/**
 * Works on all items, `atOnce` at a time, in their order. The first failure ends it: no further item is begun, the signal
 * that those at work got is aborted, and the failure is thrown when they have ended.
 */
export async function inParallel<T>(
  items: readonly T[],
  atOnce: number,
  signal: AbortSignal,
  work: (item: T, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const queue = items.values();
  const ending = new AbortController();
  const stop = AbortSignal.any([signal, ending.signal]);
  let failure: { readonly error: unknown } | undefined;
  const worker = async () => {
    for (const item of queue) {
      if (failure !== undefined) return;
      try {
        await work(item, stop);
      } catch (error) {
        failure ??= { error };
        ending.abort(error);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, worker));
  if (failure !== undefined) throw failure.error;
}
