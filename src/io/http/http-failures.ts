import { FreeholdError, systemErrorCode } from '../../core/base/errors.ts';

/** No connection, or none that is answered: with nothing received yet, the next source is the better try. */
export class ConnectError extends FreeholdError {}

/** The connection broke, fell silent or asked for patience: worth another attempt. */
export class TransferError extends FreeholdError {
  /** What the server asked for. */
  readonly retryAfterMs: number | undefined;
  constructor(
    message: string,
    options: { cause?: unknown; hint?: string; retryAfterMs?: number | undefined } = {},
  ) {
    super('NETWORK', message, {
      cause: options.cause,
      ...(options.hint === undefined ? {} : { hint: options.hint }),
    });
    this.retryAfterMs = options.retryAfterMs;
  }
}

const CERTIFICATE_HINT =
  'for a certificate authority of your own set NODE_EXTRA_CA_CERTS=FILE.pem; for one registry, ca: FILE.pem in mirrors.yaml';

/** Errors of TCP and of undici that mean: there was a connection, and it ended too soon. */
const BROKEN = new Set(['ECONNRESET', 'EPIPE', 'UND_ERR_SOCKET']);

/** What a request that got no answer failed with. */
export function requestFault(error: unknown, url: URL): FreeholdError {
  if (error instanceof FreeholdError) return new ConnectError('NETWORK', `${url.host}: ${error.message}`);
  const code = systemErrorCode(error) ?? '';
  if (BROKEN.has(code)) return new TransferError(`${url.host}: ${faultText(error)}`, { cause: error });
  const isCertificate = /CERT|SELF_SIGNED|UNABLE_TO_VERIFY/.test(code);
  return new ConnectError('NETWORK', `${url.host}: ${faultText(error)}`, {
    cause: error,
    ...(isCertificate ? { hint: CERTIFICATE_HINT } : {}),
  });
}

/** What the body of an answer broke off with. */
export function bodyFault(error: unknown): TransferError {
  const isSilent = systemErrorCode(error) === 'UND_ERR_BODY_TIMEOUT';
  const reason = isSilent ? 'the server fell silent' : `the connection broke (${faultText(error)})`;
  return new TransferError(reason, { cause: error });
}

/** What went wrong in the words of the lowest layer that knows: undici wraps, and addresses come in groups. */
function faultText(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return faultText(error.errors[0]);
  if (!(error instanceof Error)) return String(error);
  const code = systemErrorCode(error);
  const known: Record<string, string> = {
    ENOTFOUND: 'the name is not known',
    EAI_AGAIN: 'the name cannot be looked up',
    ECONNREFUSED: 'connection refused',
    ENETUNREACH: 'no network',
    EHOSTUNREACH: 'no route',
    UND_ERR_CONNECT_TIMEOUT: 'no connection in time',
    UND_ERR_HEADERS_OVERFLOW: 'the headers of the answer are too large',
  };
  return (code === undefined ? undefined : known[code]) ?? error.message;
}
