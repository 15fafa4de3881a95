import { z } from 'zod';
import { ERROR_TABLE, type ErrorCode } from '../../core/base/error-table.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { type FileResponse, readBytes } from '../http/http-request.ts';
import { isTemporaryStatus, temporaryFault } from '../http/retry.ts';
import { ERROR_BYTES_MAX } from './registry-limits.ts';

/** Enough to say what is wrong; a registry may write a page. */
const MESSAGE_CHARACTERS_MAX = 300;
const ERRORS_SHOWN_MAX = 3;

/** OCI distribution 1.1, "Error Codes". */
const errorsSchema = z.object({
  errors: z.array(z.object({ code: z.string(), message: z.string().optional() })).min(1),
});

/** What an answer says is wrong. */
export interface RegistryRefusal {
  readonly status: number;
  /** The registry's own codes: `MANIFEST_BLOB_UNKNOWN`. */
  readonly codes: readonly string[];
  /** `HTTP status 400 (MANIFEST_BLOB_UNKNOWN: blob unknown to registry)`: one harmless line. */
  readonly text: string;
}

/** Reads the body of an answer that is an error. */
export async function readRefusal(response: FileResponse): Promise<RegistryRefusal> {
  const { status } = response;
  const errors = await readErrors(response);
  const shown = errors
    .slice(0, ERRORS_SHOWN_MAX)
    .map(({ code, message = '' }) => harmless(message === '' ? code : `${code}: ${message}`));
  const reason = shown.length === 0 ? '' : ` (${shown.join('; ')})`;
  return { status, codes: errors.map(({ code }) => code), text: `HTTP status ${status}${reason}` };
}

async function readErrors(response: FileResponse): Promise<z.infer<typeof errorsSchema>['errors']> {
  try {
    const bytes = await readBytes(response, ERROR_BYTES_MAX);
    return errorsSchema.parse(JSON.parse(bytes.toString('utf8'))).errors;
  } catch {
    // A page of a proxy, nothing at all, too much: then the status must do.
    return [];
  }
}

/** Untrusted text for a terminal: printable ASCII only, so that it can neither move the cursor nor turn the line around. */
export function harmless(text: string): string {
  const plain = text.replace(/[^\x20-\x7e]+/g, ' ').trim();
  return plain.length > MESSAGE_CHARACTERS_MAX ? `${plain.slice(0, MESSAGE_CHARACTERS_MAX)}...` : plain;
}

/**
 * The error that an answer means for who asked.
 * @param place `registry.acme.example/acme/triage`, for the message
 * @param action `read the manifest`
 * @param codes what certain codes of the registry mean here
 */
export async function registryFault(
  response: FileResponse,
  place: string,
  action: string,
  codes: Readonly<Record<string, ErrorCode>> = {},
): Promise<FreeholdError> {
  const refusal = await readRefusal(response);
  const message = `${place}: cannot ${action}: ${refusal.text}`;
  const known = refusal.codes.map((code) => codes[code]).find((code) => code !== undefined);
  if (known !== undefined) {
    return new FreeholdError(known, message, {
      hint:
        known === 'MANIFEST_INVALID'
          ? 'push again: every part goes before what refers to it'
          : ERROR_TABLE[known].hint,
    });
  }
  if (refusal.status === 401 || refusal.status === 403)
    return authenticationFault(response.url.host, message);
  if (refusal.status === 404) return new FreeholdError('NOT_FOUND', message);
  if (isTemporaryStatus(refusal.status)) return temporaryFault(response, message);
  return new FreeholdError('NETWORK', message);
}

export function authenticationFault(host: string, message: string, hint?: string): FreeholdError {
  return new FreeholdError('AUTHENTICATION_FAILED', message, {
    hint:
      hint ?? `docker login ${host} (or an entry for it in ~/.docker/config.json), with the right to do this`,
    detail: { host },
  });
}
