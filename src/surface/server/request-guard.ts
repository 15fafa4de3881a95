import { FreeholdError } from '../../core/base/errors.ts';
import { quoted } from '../../core/base/ids.ts';

/** Names that only ever mean this machine: DNS cannot give them to an attacker. */
const LOOPBACK_HOSTS: readonly string[] = ['127.0.0.1', 'localhost', '[::1]'];
const HOST = /^(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(?::(\d{1,5}))?$/;

/**
 * Stops DNS rebinding: a web page whose own name was made to resolve to 127.0.0.1 sends its own name as Host.
 * @param allowedHosts `NAME` (any port) or `NAME:PORT`, besides the loopback names
 * @throws HOST_REFUSED
 */
export function requireAllowedHost(host: string | undefined, allowedHosts: readonly string[]): void {
  if (host !== undefined && isAllowedHost(host.toLowerCase(), allowedHosts)) return;
  const shown = host === undefined ? 'no Host header' : `the Host header ${quoted(host)}`;
  throw new FreeholdError('HOST_REFUSED', `a request with ${shown} is refused`);
}

function isAllowedHost(host: string, allowedHosts: readonly string[]): boolean {
  const name = HOST.exec(host)?.[1];
  if (name === undefined) return false;
  return LOOPBACK_HOSTS.includes(name) || allowedHosts.includes(name) || allowedHosts.includes(host);
}

/**
 * Stops calls by web pages: browsers add Origin to whatever a page of another origin sends. Our own pages come from
 * the address that they call.
 * @throws ORIGIN_REFUSED
 */
export function requireOwnOrigin(origin: string | undefined, host: string | undefined): void {
  if (origin === undefined || origin === `http://${host?.toLowerCase()}`) return;
  throw new FreeholdError('ORIGIN_REFUSED', `a request from a page of ${quoted(origin)} is refused`);
}

/** @throws CONFIG_INVALID for an entry that no Host header can equal */
export function parseAllowedHosts(entries: readonly string[]): readonly string[] {
  return entries.map((entry) => {
    const lower = entry.toLowerCase();
    if (HOST.test(lower)) return lower;
    throw new FreeholdError('CONFIG_INVALID', `not a host name with an optional port: ${quoted(entry)}`, {
      hint: 'for example models.example or models.example:8484, without http://',
    });
  });
}
