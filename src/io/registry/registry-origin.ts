import { systemErrorCode } from '../../core/base/errors.ts';
import type { Connections } from '../http/http-connections.ts';
import { TransferError } from '../http/http-failures.ts';
import { requestOnce } from '../http/http-request.ts';
import type { RegistryLimits } from './registry-limits.ts';

/**
 * Whether a registry of this machine speaks https or plain http; every other one speaks https. Nothing but an empty
 * question goes out, and a certificate that is refused is not an answer: then it is https.
 * @throws the signal's reason
 */
export async function findOrigin(
  server: string,
  mayBePlain: boolean,
  asking: {
    readonly connections: Connections;
    readonly limits: RegistryLimits;
    readonly signal: AbortSignal;
  },
): Promise<URL> {
  const secure = new URL(`https://${server}`);
  if (!mayBePlain) return secure;
  try {
    const response = await requestOnce(asking.connections, new URL('/v2/', secure), {
      method: 'GET',
      headers: {},
      limits: asking.limits,
      signal: asking.signal,
    });
    response.abandon();
    return secure;
  } catch (error) {
    asking.signal.throwIfAborted();
    return isNoTls(error) ? new URL(`http://${server}`) : secure;
  }
}

/** The other side does not understand TLS: it answers in clear, or hangs up. */
function isNoTls(error: unknown): boolean {
  if (error instanceof TransferError) return true;
  const code = error instanceof Error ? (systemErrorCode(error.cause) ?? '') : '';
  return code === 'EPROTO' || code.startsWith('ERR_SSL_') || code === 'UND_ERR_CONNECT_TIMEOUT';
}
