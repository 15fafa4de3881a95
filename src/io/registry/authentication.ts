import { z } from 'zod';
import type { FreeholdError } from '../../core/base/errors.ts';
import { quoted } from '../../core/base/ids.ts';
import type { Connections } from '../http/http-connections.ts';
import { type FileResponse, readBytes, requestOnce } from '../http/http-request.ts';
import { isTemporaryStatus, temporaryFault } from '../http/retry.ts';
import { type Challenge, parseChallenges } from './challenge.ts';
import type { Credentials } from './credentials.ts';
import { knownTokenRealms } from './docker-hub.ts';
import { parseLoosely } from './loose-json.ts';
import { authenticationFault, readRefusal } from './registry-fault.ts';
import { type RegistryLimits, TOKEN_BYTES_MAX } from './registry-limits.ts';

/** Docker's token protocol: a token without `expires_in` lives this long, and none shorter. */
const TOKEN_SECONDS_MIN = 60;
/** A token is renewed so much before its end: clocks differ, and a request takes time. */
const TOKEN_MARGIN_MS = 10_000;
/** RFC 6750 §2.1, and nothing that could end a header. */
const BEARER_TOKEN = /^[A-Za-z0-9._~+/=:-]{1,65536}$/;

const tokenSchema = z.object({
  token: z.string().optional(),
  access_token: z.string().optional(),
  expires_in: z.number().optional(),
});

export interface AuthenticationOptions {
  /** `registry.acme.example`, as the user names it. */
  readonly host: string;
  /** Where requests go to. */
  readonly origin: URL;
  readonly connections: Connections;
  readonly limits: RegistryLimits;
  /** Further hosts (`auth.acme.example`, with a port if it is not 443) that may give out tokens for this registry. */
  readonly tokenRealms: readonly string[];
  /** Looked up with the first 401 only: a public repository needs none, and a helper may ask a person. */
  findCredentials(signal: AbortSignal): Promise<Credentials | undefined>;
  /** Milliseconds that never go back. */
  monotonicMs(): number;
}

interface Grant {
  readonly authorization: string;
  readonly endMs: number;
}

/**
 * Proves to one registry who asks: Basic, or a bearer token from the server that the registry names (distribution's
 * token protocol). Credentials go to the registry's own host, or to one that is configured, and nowhere else: a registry
 * that names another token server would otherwise collect them for it.
 */
export class Authentication {
  readonly #options: AuthenticationOptions;
  readonly #grants = new Map<string, Grant>();
  #credentials: Promise<Credentials | undefined> | undefined;

  constructor(options: AuthenticationOptions) {
    this.#options = options;
  }

  /** The Authorization header for these scopes, as far as it is known. */
  authorization(scopes: readonly string[]): string | undefined {
    const grant = this.#grants.get(scopes.join(' '));
    if (grant === undefined || grant.endMs > this.#options.monotonicMs()) return grant?.authorization;
    return undefined;
  }

  /**
   * Answers a 401 with a new Authorization header.
   * @param refused the header that was refused, if one was sent
   * @throws AUTHENTICATION_FAILED, NETWORK, CONFIG_INVALID
   */
  async answer(
    response: FileResponse,
    scopes: readonly string[],
    refused: string | undefined,
    signal: AbortSignal,
  ): Promise<string> {
    const challenges = parseChallenges(response.header('www-authenticate'));
    const known = this.authorization(scopes);
    // Another request has got a new one meanwhile.
    if (known !== undefined && known !== refused) {
      response.abandon();
      return known;
    }
    const bearer = challenges.find(({ scheme }) => scheme === 'bearer');
    const credentials = await this.#findCredentials(signal);
    if (bearer === undefined && credentials === undefined) {
      const { text } = await readRefusal(response);
      throw authenticationFault(this.#options.host, `${this.#options.host} wants a login: ${text}`);
    }
    response.abandon();
    const grant = await this.#grant(bearer, challenges, credentials, scopes, signal);
    if (grant.authorization === refused) {
      throw authenticationFault(this.#options.host, `${this.#options.host} refuses the credentials`);
    }
    this.#grants.set(scopes.join(' '), grant);
    return grant.authorization;
  }

  async #grant(
    bearer: Challenge | undefined,
    challenges: readonly Challenge[],
    credentials: Credentials | undefined,
    scopes: readonly string[],
    signal: AbortSignal,
  ): Promise<Grant> {
    const { host } = this.#options;
    const forever = { endMs: Number.POSITIVE_INFINITY };
    if (credentials?.kind === 'registry-token') {
      return { authorization: bearerHeader(credentials.token, host), ...forever };
    }
    if (bearer !== undefined) return this.#token(bearer, credentials, scopes, signal);
    if (credentials?.kind === 'password' && challenges.some(({ scheme }) => scheme === 'basic')) {
      return { authorization: basicHeader(credentials), ...forever };
    }
    const schemes = challenges.map(({ scheme }) => quoted(scheme)).join(', ') || 'none';
    throw authenticationFault(host, `${host} wants a login of a kind that is not known here: ${schemes}`);
  }

  #findCredentials(signal: AbortSignal): Promise<Credentials | undefined> {
    this.#credentials ??= this.#options.findCredentials(signal).catch((error: unknown) => {
      // Who cancelled was perhaps not the only one who waits.
      this.#credentials = undefined;
      throw error;
    });
    return this.#credentials;
  }

  async #token(
    challenge: Challenge,
    credentials: Credentials | undefined,
    scopes: readonly string[],
    signal: AbortSignal,
  ): Promise<Grant> {
    const { host, connections, limits } = this.#options;
    const realm = this.#allowedRealm(challenge.parameters.get('realm'));
    const service = challenge.parameters.get('service');
    const request = tokenRequest(realm, service, scopes, credentials);
    const response = await requestOnce(connections, request.url, { ...request, limits, signal });
    if (response.status !== 200) throw await this.#tokenFault(response);
    const bytes = await readBytes(response, TOKEN_BYTES_MAX);
    const answer = tokenSchema.safeParse(parseLoosely(bytes)).data;
    const token = answer?.token ?? answer?.access_token;
    if (token === undefined) {
      throw authenticationFault(host, `the token server ${realm.host} answers without a token`);
    }
    const seconds = Math.max(TOKEN_SECONDS_MIN, answer?.expires_in ?? TOKEN_SECONDS_MIN);
    const endMs = this.#options.monotonicMs() + seconds * 1000 - TOKEN_MARGIN_MS;
    return { authorization: bearerHeader(token, realm.host), endMs };
  }

  async #tokenFault(response: FileResponse): Promise<FreeholdError> {
    const { host } = this.#options;
    const { status } = response;
    if (isTemporaryStatus(status)) {
      response.abandon();
      return temporaryFault(response, `the token server ${response.url.host}: HTTP status ${status}`);
    }
    const { text } = await readRefusal(response);
    return authenticationFault(
      host,
      `the token server ${response.url.host} refuses a token for ${host}: ${text}`,
    );
  }

  /** @throws AUTHENTICATION_FAILED unless it is the registry's own host or a configured one */
  #allowedRealm(text: string | undefined): URL {
    const { host, origin, tokenRealms } = this.#options;
    const url = URL.parse(text ?? '');
    if (url === null || (url.protocol !== 'https:' && url.protocol !== 'http:')) {
      throw authenticationFault(
        host,
        `${host} names no token server that can be asked: ${quoted(text ?? '')}`,
      );
    }
    const isConfigured = [...tokenRealms, ...knownTokenRealms(host)].includes(url.host);
    const isOwn = url.hostname === origin.hostname;
    if (!isOwn && !isConfigured) {
      throw authenticationFault(
        host,
        `${host} sends for tokens to another host, ${url.host}: nothing was sent there`,
        `if ${url.host} belongs to it, say so in mirrors.yaml: registries: { ${host}: [{ place: ${host}, tokenRealms: [${url.host}] }] }`,
      );
    }
    // Own, over plain http: only what the registry itself is asked over, or credentials would go in the clear.
    if (url.protocol === 'http:' && url.origin !== origin.origin && !(isOwn && origin.protocol === 'http:')) {
      throw authenticationFault(
        host,
        `${host} sends for tokens to ${url.host} over plain http: nothing was sent`,
      );
    }
    if (url.username !== '' || url.password !== '') {
      throw authenticationFault(host, `${host} names a token server with a user or password in its address`);
    }
    return url;
  }
}

interface TokenRequest {
  readonly url: URL;
  readonly method: 'GET' | 'POST';
  readonly headers: Record<string, string>;
  readonly body?: Uint8Array;
}

/** The scopes are ours, never those that the challenge proposes: it could ask for more than is needed. */
function tokenRequest(
  realm: URL,
  service: string | undefined,
  scopes: readonly string[],
  credentials: Credentials | undefined,
): TokenRequest {
  if (credentials?.kind === 'identity-token') {
    const form = new URLSearchParams({
      grant_type: 'refresh_token',
      client_id: 'freehold',
      scope: scopes.join(' '),
      refresh_token: credentials.token,
      ...(service === undefined ? {} : { service }),
    });
    const body = Buffer.from(form.toString());
    const type = 'application/x-www-form-urlencoded';
    const headers = { 'content-type': type, 'content-length': String(body.byteLength) };
    return { url: realm, method: 'POST', headers, body };
  }
  const url = new URL(realm.href);
  if (service !== undefined) url.searchParams.set('service', service);
  for (const scope of scopes) url.searchParams.append('scope', scope);
  const headers: Record<string, string> =
    credentials?.kind === 'password' ? { authorization: basicHeader(credentials) } : {};
  return { url, method: 'GET', headers };
}

const basicHeader = ({ username, password }: { username: string; password: string }) =>
  `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;

function bearerHeader(token: string, from: string): string {
  if (!BEARER_TOKEN.test(token))
    throw authenticationFault(from, `${from} gave a token that no header can carry`);
  return `Bearer ${token}`;
}
