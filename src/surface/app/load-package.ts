import type { Engine, LoadedModel, LoadRequest } from '../../core/base/engine-port.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { shortName } from '../../core/base/ids.ts';
import {
  CHAT_TEMPLATE_BYTES_MAX,
  type PackageDescriptor,
  weightsOf,
} from '../../core/format/package-descriptor.ts';
import type { LocalAdapter } from './adapters.ts';
import type { Freehold } from './freehold.ts';
import { fullReference, type InstalledPackage } from './installed-packages.ts';
import { prepareModel, type StoredModelFacts } from './model-memory.ts';
import type { PreparedModel } from './resident-models.ts';
import {
  openPackageFile,
  type VerifyMode,
  verifyFiles,
  verifyInstalled,
  verifyVersionIndex,
} from './verify-package.ts';

/** How packages are loaded, the same for all of a host. */
export interface LoadSettings {
  readonly verify: VerifyMode;
  readonly requireSandbox: boolean;
  readonly threads?: number | undefined;
  readonly contextTokens?: number | undefined;
  readonly parallelRequests?: number | undefined;
}

export interface PackageToLoad {
  readonly item: InstalledPackage;
  readonly adapters: readonly LocalAdapter[];
  /** A variant to name when this one does not fit. */
  readonly smallerVariant?: InstalledPackage | undefined;
}

/**
 * Verifies a package but for its weights, which the engine verifies as it opens them, and reads how much memory it needs.
 * @throws what verification throws, GGUF_INVALID
 */
export async function preparePackage(
  freehold: Freehold,
  engine: Engine,
  facts: StoredModelFacts,
  { item, adapters, smallerVariant }: PackageToLoad,
  settings: LoadSettings,
): Promise<PreparedModel> {
  const { descriptor } = await verifyInstalled(freehold, item);
  await verifyVersionIndex(freehold, item);
  const weights = weightsOf(descriptor);
  const others = descriptor.files.filter((file) => file.role !== 'weights');
  await verifyFiles(freehold, others, settings.verify);
  const request = await loadRequest(freehold, descriptor, adapters, settings);
  const verifyWeights = () => verifyFiles(freehold, weights, settings.verify);
  return prepareModel({
    name: fullReference(item),
    facts: await facts.read(weights).catch((error: unknown) => orDamage(error, verifyWeights)),
    weightsBytes: weights.reduce((sum, { size }) => sum + size, 0),
    adapterBytes: adapters.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    contextTokens: settings.contextTokens,
    parallelRequests: settings.parallelRequests,
    smallerVariant: smallerVariant === undefined ? undefined : fullReference(smallerVariant),
    verify: async () => {
      await verifyWeights().catch((error: unknown) => {
        facts.forget(weights);
        throw error;
      });
    },
    load: (shape): Promise<LoadedModel> =>
      engine.load({ ...request, ...shape }).catch((error: unknown) => {
        facts.forget(weights);
        throw error;
      }),
  });
}

/** A header that cannot be read is damage before it is anything else. */
async function orDamage(error: unknown, verifyWeights: () => Promise<void>): Promise<never> {
  if (error instanceof FreeholdError) await verifyWeights();
  throw error;
}

async function loadRequest(
  freehold: Freehold,
  descriptor: PackageDescriptor,
  adapters: readonly LocalAdapter[],
  { verify, requireSandbox, threads }: LoadSettings,
): Promise<LoadRequest> {
  const chatTemplate = await readChatTemplate(freehold, descriptor);
  return {
    name: shortName(descriptor.name),
    weights: weightsOf(descriptor).map((file) => ({
      name: file.path,
      digest: file.digest,
      open: (signal) => openPackageFile(freehold, file, verify, signal),
    })),
    ...(chatTemplate === undefined ? {} : { chatTemplate }),
    ...(descriptor.parameters === undefined ? {} : { defaults: defined(descriptor.parameters) }),
    ...(threads === undefined ? {} : { threads }),
    ...(adapters.length === 0 ? {} : { adapters }),
    requireSandbox,
  };
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
