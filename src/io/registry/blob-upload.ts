import { pauseBeforeRetry } from '../http/retry.ts';
import { BlobReader, StreamFailure } from './blob-reader.ts';
import { ChunkedUpload } from './chunked-upload.ts';
import { SEND_BYTES } from './registry-limits.ts';
import {
  beginUpload,
  cancelUpload,
  commitUpload,
  isBlobThere,
  mountOrBegin,
  RequestTooLarge,
  sendPieces,
  type UploadOrder,
  type UploadSession,
} from './upload-session.ts';

/**
 * Brings a blob into a repository that has it not: out of another repository of the registry, or by an upload, in one
 * request or in pieces that can be taken up again.
 * @throws DIGEST_MISMATCH, SIZE_MISMATCH, NETWORK, AUTHENTICATION_FAILED; what the stream throws; the signal's reason
 */
export async function uploadBlob(order: UploadOrder): Promise<'mounted' | 'written'> {
  try {
    return await upload(order);
  } catch (error) {
    throw error instanceof StreamFailure ? error.error : error;
  }
}

async function upload(order: UploadOrder): Promise<'mounted' | 'written'> {
  const { connection, blob, record } = order;
  const kept = await record.read();
  const session = kept === undefined ? await mountOrBegin(order) : undefined;
  if (session === 'mounted') return 'mounted';
  if (blob.sizeBytes <= connection.limits.monolithicBytesMax) {
    try {
      await uploadSmall(order, session ?? (await beginUpload(order)));
      return 'written';
    } catch (error) {
      if (!(error instanceof RequestTooLarge)) throw error;
    }
    await uploadInPieces(order, undefined, undefined);
    return 'written';
  }
  await uploadInPieces(order, session, kept);
  return 'written';
}

async function uploadInPieces(
  order: UploadOrder,
  session: UploadSession | undefined,
  kept: string | undefined,
): Promise<void> {
  const chunked = new ChunkedUpload(order, session);
  try {
    if ((await chunked.run(kept)) === 'chunks-refused') await uploadStreamed(order);
  } finally {
    await chunked.close();
  }
  await order.record.forget();
}

/** In one request, from memory: its digest is known to be right before anything is sent. */
async function uploadSmall(order: UploadOrder, first: UploadSession): Promise<void> {
  const { blob, open, progress } = order;
  const bytes = Buffer.allocUnsafe(blob.sizeBytes);
  const reader = new BlobReader(blob, open);
  try {
    await reader.fill(bytes);
  } catch (error) {
    await cancelUpload(order, first.location);
    throw error;
  } finally {
    await reader.close();
  }
  progress.begin(0);
  await putWhole(order, first, () => sendPieces(bytes, 0, order, order.signal));
}

/** In one request, for registries that take no pieces: what broke off begins anew. */
async function uploadStreamed(order: UploadOrder): Promise<void> {
  const { blob, open, signal, progress } = order;
  const pieces = async function* () {
    const reader = new BlobReader(blob, open);
    try {
      progress.begin(0);
      // The last piece comes out of the reader only with a right digest; without it the registry drops the upload.
      while (reader.positionBytes < blob.sizeBytes) {
        signal.throwIfAborted();
        const piece = Buffer.allocUnsafe(Math.min(SEND_BYTES, blob.sizeBytes - reader.positionBytes));
        await reader.fill(piece);
        yield* sendPieces(piece, reader.positionBytes - piece.byteLength, order, signal);
      }
    } finally {
      await reader.close();
    }
  };
  await putWhole(order, await beginUpload(order), pieces);
}

async function putWhole(
  order: UploadOrder,
  first: UploadSession,
  body: () => AsyncIterable<Uint8Array>,
): Promise<void> {
  const { connection, blob, signal } = order;
  let { location } = first;
  for (let failures = 1; ; failures++) {
    try {
      await commitUpload(order, location, body, blob.sizeBytes);
      return;
    } catch (error) {
      const mayRepeat = connection.mayRepeat(error) && failures < connection.limits.attemptsMax;
      if (signal.aborted || !mayRepeat) throw error;
      if (await isBlobThere(order)) return;
      await pauseBeforeRetry(error, failures, connection.limits, signal);
      ({ location } = await beginUpload(order));
    }
  }
}
