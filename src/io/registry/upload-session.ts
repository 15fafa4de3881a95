import { FreeholdError } from '../../core/base/errors.ts';
import type { BlobReference, PutBlobOptions } from '../../core/format/artifact-place.ts';
import { parseContentLength } from '../http/http-headers.ts';
import type { FileResponse } from '../http/http-request.ts';
import type { OpenBlob } from './blob-reader.ts';
import type { RateLimit } from './rate-limit.ts';
import type { RegistryConnection } from './registry-connection.ts';
import { type RegistryRefusal, readRefusal, registryFault } from './registry-fault.ts';
import { MOUNTS_MAX, SEND_BYTES } from './registry-limits.ts';
import { type RepositoryContext, readScopes, writeScopes } from './repository-context.ts';
import type { UploadProgress } from './upload-progress.ts';
import type { UploadRecord } from './upload-records.ts';

export interface UploadOrder extends RepositoryContext {
  readonly blob: BlobReference;
  readonly open: OpenBlob;
  readonly mountFrom: NonNullable<PutBlobOptions['mountFrom']>;
  readonly signal: AbortSignal;
  readonly rate: RateLimit | undefined;
  readonly record: UploadRecord;
  readonly progress: UploadProgress;
}

/** An upload that the registry has begun. */
export interface UploadSession {
  readonly location: URL;
  /** OCI-Chunk-Min-Length: smaller pieces, but for the last, are refused. */
  readonly chunkBytesMin: number;
}

/** OCI distribution 1.1, "Checking if content exists". A blob of another length is none that could be used. */
export async function isBlobThere({
  connection,
  repository,
  label,
  blob,
  signal,
}: Pick<UploadOrder, 'connection' | 'repository' | 'label' | 'blob' | 'signal'>): Promise<boolean> {
  const target = `/v2/${repository}/blobs/${blob.digest}`;
  const response = await connection.send({ method: 'HEAD', target, scopes: readScopes(repository), signal });
  response.abandon();
  if (response.status === 404) return false;
  if (response.status !== 200) throw await registryFault(response, label, `look for the blob ${blob.digest}`);
  const sizeBytes = parseContentLength(response.header('content-length'));
  return sizeBytes === undefined || sizeBytes === blob.sizeBytes;
}

/** OCI distribution 1.1, "Mounting a blob from another repository". */
export async function mountOrBegin(order: UploadOrder): Promise<UploadSession | 'mounted'> {
  const { connection, repository, blob, mountFrom } = order;
  const candidates = mountFrom.filter((name) => name !== repository).slice(0, MOUNTS_MAX);
  for (const [index, from] of candidates.entries()) {
    const response = await askForMount(order, from);
    response?.abandon();
    if (response?.status === 201) {
      order.progress.begin(blob.sizeBytes);
      return 'mounted';
    }
    // 202: not mounted, but an upload begun. A registry that knows no mounting may refuse otherwise.
    if (response?.status !== 202) continue;
    if (index === candidates.length - 1) return sessionOf(response, connection);
    await cancelUpload(order, sessionOf(response, connection).location);
  }
  return beginUpload(order);
}

/** @returns undefined when there is no right to read the other repository: it was only a guess */
async function askForMount(order: UploadOrder, from: string): Promise<FileResponse | undefined> {
  const { connection, repository, blob, signal } = order;
  try {
    return await connection.send({
      method: 'POST',
      target: `${uploadsPath(repository)}?${new URLSearchParams({ mount: blob.digest, from })}`,
      scopes: [...writeScopes(repository), `repository:${from}:pull`],
      headers: { 'content-length': '0' },
      signal,
    });
  } catch (error) {
    if (error instanceof FreeholdError && error.code === 'AUTHENTICATION_FAILED') return undefined;
    throw error;
  }
}

export async function beginUpload(order: UploadOrder): Promise<UploadSession> {
  const { connection, repository, label, signal } = order;
  const response = await connection.send({
    method: 'POST',
    target: uploadsPath(repository),
    scopes: writeScopes(repository),
    headers: { 'content-length': '0' },
    signal,
  });
  if (response.status !== 202) throw await registryFault(response, label, 'begin an upload');
  response.abandon();
  return sessionOf(response, connection);
}

const uploadsPath = (repository: string) => `/v2/${repository}/blobs/uploads/`;

function sessionOf(response: FileResponse, connection: RegistryConnection): UploadSession {
  const minimum = response.header('oci-chunk-min-length') ?? '';
  return {
    location: connection.ownLocation(response.header('location'), response.url),
    chunkBytesMin: /^\d{1,12}$/.test(minimum) ? Number(minimum) : 0,
  };
}

/** Frees what the registry keeps. It would forget by itself, so a failure does not matter. */
export async function cancelUpload(order: UploadOrder, location: URL): Promise<void> {
  const { connection, repository, signal } = order;
  try {
    const scopes = writeScopes(repository);
    const response = await connection.send({
      method: 'DELETE',
      target: location,
      scopes,
      signal,
      attemptsMax: 1,
    });
    response.abandon();
  } catch {
    signal.throwIfAborted();
  }
}

/**
 * OCI distribution 1.1, "Pushing a blob": ends an upload, with the last bytes of it.
 * @throws DIGEST_MISMATCH when the registry got other bytes; TransferError
 */
export async function commitUpload(
  order: UploadOrder,
  location: URL,
  body: (() => AsyncIterable<Uint8Array>) | undefined,
  bodyBytes: number,
): Promise<void> {
  const { connection, repository, label, blob, signal } = order;
  // Not by URLSearchParams, which would write the registry's own parameters anew in its own way.
  const target = new URL(location.href);
  target.search += `${target.search === '' ? '?' : '&'}digest=${encodeURIComponent(blob.digest)}`;
  const response = await connection.send({
    method: 'PUT',
    target,
    scopes: writeScopes(repository),
    headers: { 'content-type': 'application/octet-stream', 'content-length': String(bodyBytes) },
    body,
    answerTimeoutMs: connection.limits.commitTimeoutMs,
    signal,
    attemptsMax: 1,
  });
  if (response.status === 201 || response.status === 204) {
    response.abandon();
    return;
  }
  if (response.status === 413) throw new RequestTooLarge(label, await readRefusal(response));
  throw await registryFault(response, label, `write the blob ${blob.digest}`, {
    DIGEST_INVALID: 'DIGEST_MISMATCH',
    SIZE_INVALID: 'SIZE_MISMATCH',
  });
}

/** The registry, or a proxy before it, takes no request of this length: in pieces the blob may pass. */
export class RequestTooLarge extends FreeholdError {
  constructor(label: string, { text }: RegistryRefusal) {
    super('NETWORK', `${label}: ${text}`, {
      hint: 'a server before the registry may limit the size of requests (nginx: client_max_body_size)',
    });
  }
}

/** Bytes in pieces as a socket takes them: at the allowed rate, with progress. */
export async function* sendPieces(
  bytes: Uint8Array,
  startBytes: number,
  { rate, progress }: UploadOrder,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  for (let start = 0; start < bytes.byteLength; start += SEND_BYTES) {
    const piece = bytes.subarray(start, start + SEND_BYTES);
    if (rate !== undefined) await rate.take(piece.byteLength, signal);
    yield piece;
    // Taken by the connection, when the next one is asked for.
    progress.report(startBytes + start + piece.byteLength);
  }
}
