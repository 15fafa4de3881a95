/**
 * Waits for work that others may wait for as well: an abort ends the waiting, not the work.
 * @param errorOf what to throw on an abort; absent: the signal's reason
 * @throws what `work` rejects with
 */
export async function unlessAborted<Result>(
  work: Promise<Result>,
  signal: AbortSignal | undefined,
  errorOf: (signal: AbortSignal) => unknown = ({ reason }) => reason,
): Promise<Result> {
  if (signal === undefined) return work;
  // Nobody may be left to hear of it.
  work.catch(() => {});
  if (signal.aborted) throw errorOf(signal);
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(errorOf(signal));
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
