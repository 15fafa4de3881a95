import { FreeholdError } from '../../core/base/errors.ts';
import { quoted } from '../../core/base/ids.ts';
import { parseRequestJson } from '../../core/wire/request-json.ts';

/** A context of 1 M tokens as text takes about 5 MB; leaves room for token arrays and escapes. */
export const BODY_BYTES_MAX = 16 << 20;

/**
 * Of all bodies that this process is receiving at once. Without it, a client of 256 connections that never completes
 * its bodies would hold 4 GiB for a minute.
 */
export const BODIES_BYTES_MAX = 128 << 20;

/** Bytes of bodies that are being received: memory is the process's, so the count is as well. */
let heldBytes = 0;

/**
 * Reads a JSON body, counting while it streams: a chunked body declares no length.
 * @throws MEDIA_TYPE_REFUSED, BODY_TOO_LARGE, BUSY, REQUEST_INVALID, CANCELLED when the client hangs up
 */
export async function readJsonBody(request: Request): Promise<unknown> {
  requireJsonType(request.headers);
  const declared = Number(request.headers.get('content-length') ?? 0);
  if (declared > BODY_BYTES_MAX) throw tooLarge(`${declared} bytes`);
  return parseRequestJson(await readBytes(request), BODY_BYTES_MAX);
}

/**
 * The three types that a web page may send across origins without asking are not among those accepted.
 */
function requireJsonType(headers: Headers): void {
  const [type, ...parameters] = (headers.get('content-type') ?? '').toLowerCase().split(';');
  const charset = parameters.map((text) => text.trim()).find((text) => text.startsWith('charset='));
  if (
    type?.trim() !== 'application/json' ||
    (charset !== undefined && !/^charset="?utf-?8"?$/.test(charset))
  ) {
    const shown = headers.get('content-type');
    throw new FreeholdError(
      'MEDIA_TYPE_REFUSED',
      shown === null ? 'the body has no content-type' : `the body is declared as ${quoted(shown)}`,
    );
  }
  const encoding = headers.get('content-encoding');
  if (encoding !== null && encoding.toLowerCase() !== 'identity') {
    throw new FreeholdError('MEDIA_TYPE_REFUSED', `the body is compressed: ${quoted(encoding)}`, {
      hint: 'send it without content-encoding',
    });
  }
}

async function readBytes(request: Request): Promise<Uint8Array> {
  if (request.body === null) return new Uint8Array(0);
  const parts: Uint8Array[] = [];
  let total = 0;
  const reader = request.body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((cause: unknown) => {
        throw new FreeholdError('CANCELLED', 'the client hung up before its body was complete', { cause });
      });
      if (done) return Buffer.concat(parts);
      total += value.byteLength;
      heldBytes += value.byteLength;
      if (total > BODY_BYTES_MAX) throw tooLarge('a body');
      if (heldBytes > BODIES_BYTES_MAX) {
        throw new FreeholdError(
          'BUSY',
          `the server is receiving bodies of more than ${BODIES_BYTES_MAX} bytes`,
        );
      }
      parts.push(value);
    }
  } finally {
    heldBytes -= total;
  }
}

function tooLarge(what: string): FreeholdError {
  return new FreeholdError(
    'BODY_TOO_LARGE',
    `${what} of a request: more than the allowed ${BODY_BYTES_MAX} bytes`,
    {
      detail: { bytesMax: BODY_BYTES_MAX },
    },
  );
}
