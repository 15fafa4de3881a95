import { isLoopbackHost } from '../../core/base/loopback.ts';
import type { RepositoryName } from '../../core/base/registry-reference.ts';
import type { ArtifactPlace, BlobReference, PutBlobOutcome } from '../../core/format/artifact-place.ts';
import { type Connections, type Environment, openConnections } from '../http/http-connections.ts';
import { Authentication } from './authentication.ts';
import { downloadBlob } from './blob-download.ts';
import { uploadBlob } from './blob-upload.ts';
import { authorityFolders, readAuthorities } from './certificate-authorities.ts';
import { findCredentials } from './credentials.ts';
import { registryServer } from './docker-hub.ts';
import { isManifestThere, readManifest, writeManifest } from './manifests.ts';
import type { RateLimit } from './rate-limit.ts';
import { addToFallbackTag, listReferrers } from './referrers.ts';
import { RegistryConnection } from './registry-connection.ts';
import { REGISTRY_LIMITS, type RegistryLimits } from './registry-limits.ts';
import { findOrigin } from './registry-origin.ts';
import { type RepositoryContext, readScopes } from './repository-context.ts';
import { listTags } from './tags.ts';
import { uploadProgress } from './upload-progress.ts';
import { removeOldRecords, withUploadRecord } from './upload-records.ts';
import { isBlobThere } from './upload-session.ts';

export interface RepositoryOptions {
  /** Proxies (HTTP_PROXY, HTTPS_PROXY, NO_PROXY), HOME, DOCKER_CONFIG, REGISTRY_AUTH_FILE, what credential helpers need. */
  readonly environment: Environment;
  /** Plain http for a host that is not this machine. */
  readonly plainHttp?: boolean;
  /** PEM file of certificate authorities that count for this registry, besides the system's. */
  readonly caFile?: string | undefined;
  /** Hosts, besides the registry's own, that may give out tokens for it. */
  readonly tokenRealms?: readonly string[];
  /** Shared by all that must stay below it together. */
  readonly rate?: RateLimit | undefined;
  /** Where unfinished uploads are remembered (files of mode 0600); absent: they begin anew. */
  readonly uploadsFolder?: string | undefined;
  readonly limits?: Partial<RegistryLimits>;
  /** Folders in which authorities lie by host; default: those of docker and podman. */
  readonly authorityFolders?: readonly string[];
  /** For the age of tokens. */
  readonly monotonicMs?: () => number;
}

export interface Repository extends ArtifactPlace {
  /** Ends all connections. */
  close(): Promise<void>;
}

/**
 * One repository of a registry that speaks OCI distribution 1.1. Connects with the first request.
 */
export function openRepository(name: RepositoryName, options: RepositoryOptions): Repository {
  const label = `${name.host}/${name.repository}`;
  const { repository } = name;
  const { rate, uploadsFolder } = options;
  let opened: Promise<OpenRegistry> | undefined;
  const contextFor = async (signal: AbortSignal): Promise<RepositoryContext> => {
    signal.throwIfAborted();
    opened ??= openRegistry(name.host, options, signal).catch((error: unknown) => {
      opened = undefined;
      throw error;
    });
    const { connection } = await opened;
    return { connection, repository, label };
  };
  const isThere = async (blob: BlobReference, signal: AbortSignal) =>
    isBlobThere({ ...(await contextFor(signal)), blob, signal });
  return {
    label,
    async manifest(reference, signal) {
      return readManifest(await contextFor(signal), reference, signal);
    },
    async *blob(blob, range, signal) {
      const context = await contextFor(signal);
      const path = `/v2/${repository}/blobs/${blob.digest}`;
      yield* downloadBlob({ ...context, path, scopes: readScopes(repository), blob, range, rate, signal });
    },
    async tags(signal) {
      return listTags(await contextFor(signal), signal);
    },
    async referrers(subject, signal) {
      return listReferrers(await contextFor(signal), subject, signal);
    },
    hasBlob: isThere,
    async hasManifest(digest, signal) {
      return isManifestThere(await contextFor(signal), digest, signal);
    },
    async putBlob(blob, open, { signal, onBytes, mountFrom = [] }): Promise<PutBlobOutcome> {
      const context = await contextFor(signal);
      const progress = uploadProgress(onBytes);
      if (await isThere(blob, signal)) {
        progress.begin(blob.sizeBytes);
        return 'present';
      }
      // A small blob goes at once: there is nothing to go on with.
      const isLarge = blob.sizeBytes > context.connection.limits.monolithicBytesMax;
      if (isLarge && uploadsFolder !== undefined) await removeOldRecords(uploadsFolder);
      return withUploadRecord(isLarge ? uploadsFolder : undefined, name, blob.digest, (record) =>
        uploadBlob({ ...context, blob, open, mountFrom, signal, rate, record, progress }),
      );
    },
    async putManifest(document, tag, signal) {
      const context = await contextFor(signal);
      const { isListed } = await writeManifest(context, document, tag, signal);
      if (!isListed) await addToFallbackTag(context, document, signal);
    },
    async close() {
      const registry = await opened?.catch(() => undefined);
      opened = undefined;
      await registry?.connections.destroy();
    },
  };
}

interface OpenRegistry {
  readonly connections: Connections;
  readonly connection: RegistryConnection;
}

async function openRegistry(
  host: string,
  options: RepositoryOptions,
  signal: AbortSignal,
): Promise<OpenRegistry> {
  const { environment, caFile, plainHttp = false, tokenRealms = [] } = options;
  const limits = { ...REGISTRY_LIMITS, ...options.limits };
  const server = registryServer(host);
  const folders = options.authorityFolders ?? authorityFolders(environment);
  const authorities = await readAuthorities(server, caFile, folders);
  // A proxy would reach its own loopback, not ours.
  const isLoopback = isLoopbackHost(new URL(`https://${server}`).hostname);
  const connections = openConnections(isLoopback ? {} : environment, limits, authorities);
  try {
    const mayProbe = isLoopback && caFile === undefined;
    const origin = plainHttp
      ? new URL(`http://${server}`)
      : await findOrigin(server, mayProbe, { connections, limits, signal });
    const authentication = new Authentication({
      host,
      origin,
      connections,
      limits,
      tokenRealms,
      findCredentials: (stop) => findCredentials(host, environment, stop),
      monotonicMs: options.monotonicMs ?? (() => performance.now()),
    });
    const allowHttp = plainHttp;
    return {
      connections,
      connection: new RegistryConnection({ origin, limits, connections, authentication, allowHttp }),
    };
  } catch (error) {
    await connections.destroy();
    throw error;
  }
}
