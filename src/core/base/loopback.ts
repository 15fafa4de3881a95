/**
 * Whether a host name of a URL is this machine. Plain http is for loopback, or where somebody asks for it: bytes are
 * checked, but who fetches what is not hidden.
 */
export function isLoopbackHost(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || /^127(?:\.\d{1,3}){3}$/.test(hostname);
}
