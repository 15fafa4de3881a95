import { FreeholdError } from '../../core/base/errors.ts';

/**
 * The next page of a list. OCI distribution 1.1, "Listing Tags"; RFC 8288.
 * @returns undefined on the last page
 * @throws NETWORK when it lies on another origin: lists are read with credentials
 */
export function nextPage(header: string | undefined, current: URL): URL | undefined {
  for (const link of (header ?? '').matchAll(/<([^<>]{1,4096})>((?:\s*;\s*[^,;]*)*)/g)) {
    const [, target = '', parameters = ''] = link;
    if (!/;\s*rel\s*=\s*"?next"?\s*(?:;|$)/i.test(parameters)) continue;
    const url = URL.parse(target, current.href);
    if (url === null) throw new FreeholdError('NETWORK', `${current.host}: a next page that is no URL`);
    // Registries behind a proxy that ends TLS know their own scheme only.
    if (url.host === current.host || url.hostname === current.hostname) {
      url.protocol = current.protocol;
      url.host = current.host;
    }
    if (url.origin !== current.origin || url.username !== '' || url.password !== '') {
      throw new FreeholdError('NETWORK', `${current.host}: the next page of a list lies on ${url.host}`);
    }
    return url.href === current.href ? undefined : url;
  }
  return undefined;
}
