import { totalmem } from 'node:os';
import type {
  Engine,
  LoadedModel,
  LoadRequest,
  ModelHost,
  ModelSummary,
} from '../../core/base/engine-port.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { shortName } from '../../core/base/ids.ts';
import { type Log, silentLog } from '../../core/base/log.ts';
import {
  CHAT_TEMPLATE_BYTES_MAX,
  type PackageDescriptor,
  weightsOf,
} from '../../core/format/package-descriptor.ts';
import { createLlamaEngine } from '../../io/engine/llama/llama-engine.ts';
import type { Freehold } from './freehold.ts';
import {
  fullReference,
  type InstalledPackage,
  installedPackages,
  resolveInstalled,
} from './installed-packages.ts';
import { ResidentModels } from './resident-models.ts';
import {
  openPackageFile,
  type VerifyMode,
  verifyFiles,
  verifyInstalled,
  verifyVersionIndex,
} from './verify-package.ts';

export interface HostOptions {
  readonly verify?: VerifyMode;
  readonly requireSandbox?: boolean;
  readonly threads?: number;
  readonly contextTokens?: number;
  readonly log?: Log;
  /** Another engine, for tests of what stands above. */
  readonly engine?: Engine;
}

/** Of the machine's memory, what one model may take: the rest is for everything else that runs. */
const MEMORY_SHARE = 0.7;
/** The models of one home: resolves names, verifies, loads once, keeps a few loaded. */
export interface LocalModelHost extends ModelHost {
  /** Ends all models. Idempotent. */
  close(): Promise<void>;
}

/**
 * Every model goes through the same gate: signature under the trust policy, every small file against its digest, and
 * the weights against theirs through the descriptor that the engine then maps.
 */
export function createModelHost(freehold: Freehold, options: HostOptions = {}): LocalModelHost {
  const engine = options.engine ?? createLlamaEngine({ log: options.log ?? silentLog });
  const resident = new ResidentModels();
  const installed = async () => installedPackages(await freehold.store.entries());
  return {
    list: async () => summaries(await installed()),
    async use(id, signal) {
      const item = await resolve(freehold, await installed(), id);
      return resident.use(item.manifestDigest, () => loadPackage(freehold, engine, item, options), signal);
    },
    requireReady: async () => {
      await installed();
    },
    close: () => resident.close(),
  };
}

/** As `resolveInstalled`; a model that could be installed by its name says so. */
async function resolve(
  freehold: Freehold,
  packages: readonly InstalledPackage[],
  id: string,
): Promise<InstalledPackage> {
  try {
    return resolveInstalled(packages, id, totalmem() * MEMORY_SHARE);
  } catch (error) {
    if (!(error instanceof FreeholdError) || error.code !== 'MODEL_NOT_FOUND') throw error;
    const name = id.replace(/^catalog[:/]/, '');
    const known = (await freehold.catalog()).list().some((entry) => entry.name === name);
    if (!known || packages.some((item) => shortName(item.name) === name)) throw error;
    throw new FreeholdError('MODEL_NOT_FOUND', `${name} is not installed`, {
      hint: `freehold install catalog:${name}`,
      cause: error.cause,
    });
  }
}

/** One summary per package name: the short name where it is unique, else the whole name. */
function summaries(packages: readonly InstalledPackage[]): ModelSummary[] {
  const newest = new Map<string, InstalledPackage>();
  for (const item of packages) if (!newest.has(item.name)) newest.set(item.name, item);
  const shorts = [...newest.keys()].map(shortName);
  return [...newest.values()].map((item) => {
    const short = shortName(item.name);
    const isUnique = shorts.filter((other) => other === short).length === 1;
    return {
      id: isUnique ? short : item.name,
      reference: fullReference(item),
      // Packages carry no time, so that building twice gives the same bytes.
      createdSeconds: 0,
      owner: item.name.includes('/') ? item.name.slice(0, item.name.indexOf('/')) : 'local',
    };
  });
}

async function loadPackage(
  freehold: Freehold,
  engine: Engine,
  item: InstalledPackage,
  options: HostOptions,
): Promise<LoadedModel> {
  const mode = options.verify ?? 'warm';
  const { descriptor } = await verifyInstalled(freehold, item);
  await verifyVersionIndex(freehold, item);
  const weights = weightsOf(descriptor);
  await verifyFiles(
    freehold,
    descriptor.files.filter((file) => file.role !== 'weights'),
    mode,
  );
  const chatTemplate = await readChatTemplate(freehold, descriptor);
  const request: LoadRequest = {
    name: shortName(descriptor.name),
    weights: weights.map((file) => ({
      name: file.path,
      open: (signal) => openPackageFile(freehold, file, mode, signal),
    })),
    ...(chatTemplate === undefined ? {} : { chatTemplate }),
    ...(descriptor.parameters === undefined ? {} : { defaults: defined(descriptor.parameters) }),
    ...(options.contextTokens === undefined ? {} : { contextTokens: options.contextTokens }),
    ...(options.threads === undefined ? {} : { threads: options.threads }),
    requireSandbox: options.requireSandbox === true,
  };
  return engine.load(request);
}

/** zod's optional keys may hold undefined; the engine's port has them absent. */
function defined(
  parameters: NonNullable<PackageDescriptor['parameters']>,
): NonNullable<LoadRequest['defaults']> {
  return Object.fromEntries(Object.entries(parameters).filter(([, value]) => value !== undefined));
}

async function readChatTemplate(
  freehold: Freehold,
  descriptor: PackageDescriptor,
): Promise<string | undefined> {
  const file = descriptor.files.find(({ role }) => role === 'chat-template');
  if (file === undefined) return undefined;
  return (await freehold.store.blobs.readAll(file.digest, CHAT_TEMPLATE_BYTES_MAX)).toString('utf8');
}
