import { z } from 'zod';
import { Digest } from '../../core/base/digest.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { parseTag } from '../../core/base/registry-reference.ts';
import { DOCUMENT_BYTES_MAX, DOCUMENT_TYPES } from '../../core/format/artifact-documents.ts';
import type { ManifestDocument, ManifestReference } from '../../core/format/artifact-place.ts';
import { MEDIA_TYPE } from '../../core/format/oci.ts';
import { TransferError } from '../http/http-failures.ts';
import { type FileResponse, readBytes } from '../http/http-request.ts';
import { pauseBeforeRetry } from '../http/retry.ts';
import { parseLoosely } from './loose-json.ts';
import { registryFault } from './registry-fault.ts';
import { type RepositoryContext, readScopes, writeScopes } from './repository-context.ts';

/** Everything that may come back must be named: registries convert, or answer 404, otherwise. */
const ACCEPT = DOCUMENT_TYPES.join(', ');

/** Codes by which a registry says that something is missing or malformed. OCI distribution 1.1, "Error Codes". */
const WRITE_CODES = {
  MANIFEST_BLOB_UNKNOWN: 'MANIFEST_INVALID',
  MANIFEST_INVALID: 'MANIFEST_INVALID',
  MANIFEST_UNKNOWN: 'MANIFEST_INVALID',
  MANIFEST_UNVERIFIED: 'MANIFEST_INVALID',
  BLOB_UNKNOWN: 'MANIFEST_INVALID',
  DIGEST_INVALID: 'DIGEST_MISMATCH',
} as const;

const typedSchema = z.object({ mediaType: z.string().min(1).max(255) });

const manifestPath = ({ repository }: RepositoryContext, reference: ManifestReference) =>
  `/v2/${repository}/manifests/${'tag' in reference ? parseTag(reference.tag) : reference.digest}`;

/**
 * A manifest by tag or digest. OCI distribution 1.1, "Pulling manifests".
 * @returns undefined when there is none
 * @throws DIGEST_MISMATCH when the bytes are others than were asked for, or than the registry says; SIZE_MISMATCH beyond
 *   4 MiB
 */
export async function readManifest(
  context: RepositoryContext,
  reference: ManifestReference,
  signal: AbortSignal,
): Promise<ManifestDocument | undefined> {
  const { connection, repository, label } = context;
  for (let failures = 1; ; failures++) {
    const response = await connection.send({
      method: 'GET',
      target: manifestPath(context, reference),
      scopes: readScopes(repository),
      headers: { accept: ACCEPT },
      signal,
    });
    if (response.status === 404) {
      response.abandon();
      return undefined;
    }
    if (response.status !== 200)
      throw await registryFault(response, label, `read ${referenceText(reference)}`);
    try {
      const bytes = await readBytes(response, DOCUMENT_BYTES_MAX);
      return checkedDocument(bytes, response, reference, label);
    } catch (error) {
      // The body broke off.
      if (!(error instanceof TransferError) || failures >= connection.limits.attemptsMax) throw error;
      await pauseBeforeRetry(error, failures, connection.limits, signal);
    }
  }
}

/** The digest is of the bytes that came; what a header says can only speak against them. */
function checkedDocument(
  bytes: Buffer,
  response: FileResponse,
  reference: ManifestReference,
  label: string,
): ManifestDocument {
  const digest = Digest.of(bytes);
  const said = response.header('docker-content-digest') ?? '';
  const expected = 'digest' in reference ? reference.digest : Digest.is(said) ? said : digest;
  if (digest !== expected) {
    throw new FreeholdError(
      'DIGEST_MISMATCH',
      `${label}: ${referenceText(reference)} came with the digest ${digest}, not ${expected}`,
      { hint: 'try again, or another mirror', detail: { expected, actual: digest } },
    );
  }
  return { bytes, digest, mediaType: mediaTypeOf(bytes, response.header('content-type')) };
}

/** What the document says of itself is covered by its digest; the header is not. */
function mediaTypeOf(bytes: Buffer, header: string | undefined): string {
  const said = typedSchema.safeParse(parseLoosely(bytes)).data?.mediaType;
  return said ?? /^[\w.+-]+\/[\w.+-]+/.exec(header ?? '')?.[0] ?? MEDIA_TYPE.manifest;
}

const referenceText = (reference: ManifestReference) =>
  'tag' in reference ? `tag ${reference.tag}` : `manifest ${reference.digest}`;

export async function isManifestThere(
  context: RepositoryContext,
  digest: Digest,
  signal: AbortSignal,
): Promise<boolean> {
  const { connection, repository, label } = context;
  const response = await connection.send({
    method: 'HEAD',
    target: manifestPath(context, { digest }),
    scopes: readScopes(repository),
    headers: { accept: ACCEPT },
    signal,
  });
  response.abandon();
  if (response.status === 404) return false;
  if (response.status !== 200) throw await registryFault(response, label, `look for the manifest ${digest}`);
  return true;
}

/**
 * Writes a manifest. OCI distribution 1.1, "Pushing Manifests".
 * @returns whether the registry itself lists it as a referrer of its subject (header OCI-Subject)
 * @throws MANIFEST_INVALID when something that it refers to is missing; DIGEST_MISMATCH
 */
export async function writeManifest(
  context: RepositoryContext,
  document: ManifestDocument,
  tag: string | undefined,
  signal: AbortSignal,
): Promise<{ readonly isListed: boolean }> {
  const { connection, repository, label } = context;
  const { bytes, digest, mediaType } = document;
  const actual = Digest.of(bytes);
  if (actual !== digest) {
    throw new FreeholdError('DIGEST_MISMATCH', `the manifest to write as ${digest} has the digest ${actual}`);
  }
  const response = await connection.send({
    method: 'PUT',
    target: manifestPath(context, tag === undefined ? { digest } : { tag }),
    scopes: writeScopes(repository),
    headers: { 'content-type': mediaType, 'content-length': String(bytes.byteLength) },
    body: () => bytes,
    answerTimeoutMs: connection.limits.commitTimeoutMs,
    signal,
  });
  if (response.status !== 201 && response.status !== 200 && response.status !== 202) {
    const what = tag === undefined ? `manifest ${digest}` : `tag ${tag}`;
    throw await registryFault(response, label, `write ${what}`, WRITE_CODES);
  }
  response.abandon();
  const said = response.header('docker-content-digest') ?? digest;
  if (Digest.is(said) && said !== digest) {
    throw new FreeholdError('DIGEST_MISMATCH', `${label}: the manifest ${digest} became ${said} there`);
  }
  return { isListed: response.header('oci-subject') !== undefined };
}
