import { getCACertificates } from 'node:tls';
import { Agent, type Dispatcher, EnvHttpProxyAgent } from 'undici';
import { FreeholdError } from '../../core/base/errors.ts';
import type { DirectLine } from './direct-request.ts';
import type { FetchLimits } from './fetch-limits.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/** How the servers of one fetch are reached. */
export interface Connections {
  readonly pool: Dispatcher;
  /** For long bodies; absent where there are proxies. */
  readonly direct?: DirectLine;
  /** Ends what the pool has open. */
  destroy(): Promise<void>;
}

/**
 * The connections for one fetch: proxies as the environment says (HTTP_PROXY, HTTPS_PROXY, NO_PROXY, also in
 * lower case); further certificate authorities by NODE_EXTRA_CA_CERTS.
 * @param authorities PEM texts of certificate authorities that count besides the system's, for these connections only
 * @throws CONFIG_INVALID when a proxy is not a URL
 */
export function openConnections(
  environment: Environment,
  limits: FetchLimits,
  authorities: readonly string[] = [],
): Connections {
  const httpProxy = environment.http_proxy ?? environment.HTTP_PROXY ?? '';
  const httpsProxy = environment.https_proxy ?? environment.HTTPS_PROXY ?? httpProxy;
  const noProxy = environment.no_proxy ?? environment.NO_PROXY ?? '';
  const timeout = { timeout: limits.connectTimeoutMs };
  const ca = authorities.length === 0 ? undefined : [...getCACertificates('default'), ...authorities];
  const trust = ca === undefined ? {} : { ca };
  const connect = { ...timeout, ...trust };
  // The time until an answer is ours to watch: a body may take long to send.
  const common = { connect, bodyTimeout: limits.idleTimeoutMs, headersTimeout: 0 };
  if (httpProxy === '' && httpsProxy === '') {
    const pool = new Agent(common);
    return { pool, direct: trust, destroy: () => pool.destroy() };
  }
  // Plain http goes to the proxy as such: many allow CONNECT to port 443 only.
  const byProxy = { proxyTunnel: false, proxyTls: timeout, requestTls: connect };
  try {
    const pool = new EnvHttpProxyAgent({ ...common, ...byProxy, httpProxy, httpsProxy, noProxy });
    return { pool, destroy: () => pool.destroy() };
  } catch (error) {
    throw new FreeholdError('CONFIG_INVALID', 'HTTP_PROXY or HTTPS_PROXY is not a URL', {
      cause: error,
      hint: 'for example http://proxy.acme.example:3128',
    });
  }
}
