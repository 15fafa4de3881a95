import { getCACertificates } from 'node:tls';
import { Agent, type Dispatcher, EnvHttpProxyAgent } from 'undici';
import { FreeholdError } from '../../core/base/errors.ts';
import type { FetchLimits } from './fetch-limits.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * One pool of connections for one fetch: proxies as the environment says (HTTP_PROXY, HTTPS_PROXY, NO_PROXY, also in
 * lower case); further certificate authorities by NODE_EXTRA_CA_CERTS.
 * @param authorities PEM texts of certificate authorities that count besides the system's, for these connections only
 * @throws CONFIG_INVALID when a proxy is not a URL
 */
export function openConnections(
  environment: Environment,
  limits: FetchLimits,
  authorities: readonly string[] = [],
): Dispatcher {
  const httpProxy = environment.http_proxy ?? environment.HTTP_PROXY ?? '';
  const httpsProxy = environment.https_proxy ?? environment.HTTPS_PROXY ?? httpProxy;
  const noProxy = environment.no_proxy ?? environment.NO_PROXY ?? '';
  const timeout = { timeout: limits.connectTimeoutMs };
  const trust = authorities.length === 0 ? {} : { ca: [...getCACertificates('default'), ...authorities] };
  const connect = { ...timeout, ...trust };
  // The time until an answer is ours to watch: a body may take long to send.
  const common = { connect, bodyTimeout: limits.idleTimeoutMs, headersTimeout: 0 };
  if (httpProxy === '' && httpsProxy === '') return new Agent(common);
  // Plain http goes to the proxy as such: many allow CONNECT to port 443 only.
  const byProxy = { proxyTunnel: false, proxyTls: timeout, requestTls: connect };
  try {
    return new EnvHttpProxyAgent({ ...common, ...byProxy, httpProxy, httpsProxy, noProxy });
  } catch (error) {
    throw new FreeholdError('CONFIG_INVALID', 'HTTP_PROXY or HTTPS_PROXY is not a URL', {
      cause: error,
      hint: 'for example http://proxy.acme.example:3128',
    });
  }
}
