/**
 * The one registry whose name, server, credentials' key and token server are four names, by convention of all tools.
 */
const HUB = {
  names: ['docker.io', 'index.docker.io', 'registry-1.docker.io'],
  server: 'registry-1.docker.io',
  credentialsKey: 'https://index.docker.io/v1/',
  tokenRealm: 'auth.docker.io',
} as const;

const isHub = (host: string): boolean => HUB.names.some((name) => name === host);

/** Which server to connect to for a registry's name. */
export const registryServer = (host: string): string => (isHub(host) ? HUB.server : host);

/** Keys under which tools file credentials for a registry, the best first. */
export function credentialKeys(host: string): string[] {
  const names: string[] = isHub(host) ? [HUB.credentialsKey, ...HUB.names] : [host];
  return names.flatMap((name) =>
    name.startsWith('https:')
      ? [name]
      : [
          name,
          `https://${name}`,
          `https://${name}/`,
          `https://${name}/v1/`,
          `https://${name}/v2/`,
          `http://${name}`,
        ],
  );
}

/** Hosts that give out tokens for a registry, besides itself. */
export const knownTokenRealms = (host: string): string[] => (isHub(host) ? [HUB.tokenRealm] : []);
