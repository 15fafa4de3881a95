import path from 'node:path';
import type { Clock } from '../../core/base/clock.ts';
import { suggestion } from '../../core/base/did-you-mean.ts';
import type { Engine, LoadedModel, ModelHost, ModelSummary } from '../../core/base/engine-port.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { shortName } from '../../core/base/ids.ts';
import { type Log, silentLog } from '../../core/base/log.ts';
import { createLlamaEngine } from '../../io/engine/llama/llama-engine.ts';
import { openThreadChoices } from '../../io/home/thread-choices.ts';
import {
  type AdapterOption,
  type LocalAdapter,
  openLocalAdapter,
  splitAdapter,
  withAdapter,
} from './adapters.ts';
import type { Freehold } from './freehold.ts';
import {
  fullReference,
  type InstalledPackage,
  installedPackages,
  isVersionMeant,
  resolveInstalled,
  smallerVariant,
} from './installed-packages.ts';
import { type LoadSettings, preparePackage } from './load-package.ts';
import { type ReadMemory, readMachineMemory } from './machine-memory.ts';
import { type ModelAliases, requireNoCollisions, withoutAlias } from './model-aliases.ts';
import { defaultBudget, StoredModelFacts } from './model-memory.ts';
import { PinnedModels } from './pinned-models.ts';
import { ResidentModels } from './resident-models.ts';
import { backgroundClock } from './system-clock.ts';
import type { VerifyMode } from './verify-package.ts';

/** A model that nobody asked for during this time gives its memory back. */
export const KEEP_ALIVE_MS_DEFAULT = 5 * 60_000;

export interface HostOptions {
  readonly verify?: VerifyMode;
  readonly requireSandbox?: boolean;
  readonly threads?: number;
  /** Of each request; absent: the model's own, at most 8192. */
  readonly contextTokens?: number;
  /** Requests that one model works on at once; absent: 4, or fewer where those do not fit. */
  readonly parallelRequests?: number;
  /** How long a request may wait for its turn; absent: the engine's default. */
  readonly queueTimeoutMs?: number;
  /** What all loaded models may need together; absent: 70 % of what this process may use. */
  readonly memoryBytes?: number;
  /** How long a model stays loaded without being used; 0: not at all, infinite: until room is needed. Default 5 minutes. */
  readonly keepAliveMs?: number;
  /** Models to load at the start and never to unload. */
  readonly pins?: readonly string[];
  /** LoRA adapters; clients name `model+adapter`. */
  readonly adapters?: readonly AdapterOption[];
  /** Further names, of exactly one variant each (the keys of an application's `freehold.yaml`); asked at each use. */
  readonly aliases?: () => Promise<ModelAliases>;
  readonly log?: Log;
  /** Another engine, for tests of what stands above. */
  readonly engine?: Engine;
  /** For tests. */
  readonly clock?: Pick<Clock, 'sleep'>;
  /** For tests. */
  readonly readMemory?: ReadMemory;
}

/** The models of one home: resolves names, verifies, loads once, keeps as many loaded as its memory allows. */
export interface LocalModelHost extends ModelHost {
  /**
   * Begins to load pinned models, and looks whether what the options name is there.
   * @throws MODEL_NOT_FOUND for a pin or the base of an adapter, NOT_FOUND for an adapter's file, CONFIG_INVALID when two
   *   adapters have one name, or an alias is another package's name
   */
  start(): Promise<void>;
  /** Ends all models. Idempotent. */
  close(): Promise<void>;
}

const NO_ALIASES: ModelAliases = new Map();

/**
 * Every model goes through the same gate: signature under the trust policy, every small file against its digest, and
 * the weights against theirs through the descriptor that the engine then maps.
 */
export function createModelHost(freehold: Freehold, options: HostOptions = {}): LocalModelHost {
  return new HomeModelHost(freehold, options);
}

class HomeModelHost implements LocalModelHost {
  readonly #freehold: Freehold;
  readonly #options: HostOptions;
  readonly #settings: LoadSettings;
  readonly #engine: Engine;
  readonly #resident: ResidentModels;
  readonly #facts: StoredModelFacts;
  readonly #pinned: PinnedModels;
  readonly #budget: () => Promise<number>;
  #adapters: Promise<readonly HostAdapter[]> | undefined;

  constructor(freehold: Freehold, options: HostOptions) {
    const { log = silentLog, clock = backgroundClock, readMemory = readMachineMemory } = options;
    this.#freehold = freehold;
    this.#options = options;
    this.#settings = {
      verify: options.verify ?? 'warm',
      requireSandbox: options.requireSandbox === true,
      threads: options.threads,
      contextTokens: options.contextTokens,
      parallelRequests: options.parallelRequests,
    };
    this.#engine = options.engine ?? llamaEngine(freehold, log, options.queueTimeoutMs);
    this.#facts = new StoredModelFacts(freehold.store.blobs);
    let budget: Promise<number> | undefined;
    this.#budget = () => {
      budget ??=
        options.memoryBytes === undefined
          ? readMemory().then(defaultBudget)
          : Promise.resolve(options.memoryBytes);
      return budget;
    };
    this.#resident = new ResidentModels({
      budgetBytes: this.#budget,
      readMemory,
      keepAliveMs: options.keepAliveMs ?? KEEP_ALIVE_MS_DEFAULT,
      clock,
      log,
    });
    this.#pinned = new PinnedModels(options.pins ?? [], { clock, log, load: (name) => this.use(name) });
  }

  async list(): Promise<readonly ModelSummary[]> {
    const packages = await this.#installed();
    const adapters = await this.#knownAdapters();
    const aliases = await this.#aliases();
    return summaries(packages, await this.#budget(), aliases).flatMap(({ item, ...summary }) => [
      summary,
      ...adaptersOf(adapters, packages, aliases, item).map(({ name }) => ({
        ...summary,
        id: `${summary.id}+${name}`,
        reference: `${summary.reference}+${name}`,
      })),
    ]);
  }

  async use(id: string, signal?: AbortSignal): Promise<LoadedModel> {
    const { base, adapter } = splitAdapter(id);
    const packages = await this.#installed();
    const item = await this.#resolve(packages, base);
    await this.#refreshPins(packages);
    const adapters = adaptersOf(await this.#knownAdapters(), packages, await this.#aliases(), item);
    if (adapter !== undefined) requireAdapter(base, adapter, adapters);
    const model = await this.#resident.use(
      {
        // All adapters of a package are loaded with it, so that one load serves them all.
        key: item.manifestDigest,
        name: fullReference(item),
        prepare: () => {
          const toLoad = { item, adapters, smallerVariant: smallerVariant(packages, item) };
          return preparePackage(this.#freehold, this.#engine, this.#facts, toLoad, this.#settings);
        },
      },
      signal,
    );
    return adapter === undefined ? model : withAdapter(model, adapter);
  }

  async requireReady(): Promise<void> {
    await this.#installed();
    this.#pinned.requireLoaded();
  }

  async start(): Promise<void> {
    const packages = await this.#installed();
    requireNoCollisions(packages, await this.#aliases());
    const { pins = [], adapters = [] } = this.#options;
    for (const pin of pins) await this.#resolve(packages, splitAdapter(pin).base);
    const names = new Set<string>();
    for (const { base, name } of adapters) {
      const full = `${(await this.#resolve(packages, base)).name}+${name}`;
      if (names.has(full)) throw new FreeholdError('CONFIG_INVALID', `two adapters are named ${full}`);
      names.add(full);
    }
    await this.#knownAdapters();
    this.#pinned.start();
  }

  async close(): Promise<void> {
    this.#pinned.stop();
    await this.#resident.close();
  }

  async #aliases(): Promise<ModelAliases> {
    return (await this.#options.aliases?.()) ?? NO_ALIASES;
  }

  async #installed(): Promise<readonly InstalledPackage[]> {
    return installedPackages(await this.#freehold.store.entries());
  }

  /** A pin is a name: when a newer version is installed, that is the one that stays. */
  async #refreshPins(packages: readonly InstalledPackage[]): Promise<void> {
    const { pins = [] } = this.#options;
    if (pins.length === 0) return;
    const keys = new Set<string>();
    for (const pin of pins) {
      const item = await this.#resolve(packages, splitAdapter(pin).base).catch(() => undefined);
      if (item !== undefined) keys.add(item.manifestDigest);
    }
    this.#resident.pin(keys);
  }

  #knownAdapters(): Promise<readonly HostAdapter[]> {
    this.#adapters ??= openAdapters(this.#options.adapters ?? []).catch((error: unknown) => {
      this.#adapters = undefined;
      throw error;
    });
    return this.#adapters;
  }

  /** As `resolveInstalled`, after aliases; a model that could be installed by its name says so. */
  async #resolve(packages: readonly InstalledPackage[], id: string): Promise<InstalledPackage> {
    const meant = withoutAlias(packages, await this.#aliases(), id);
    try {
      return resolveInstalled(packages, meant, await this.#budget());
    } catch (error) {
      if (!(error instanceof FreeholdError) || error.code !== 'MODEL_NOT_FOUND') throw error;
      const name = id.replace(/^catalog[:/]/, '');
      const known = (await this.#freehold.catalog()).list().some((entry) => entry.name === name);
      if (!known || packages.some((item) => shortName(item.name) === name)) throw error;
      throw new FreeholdError('MODEL_NOT_FOUND', `${name} is not installed`, {
        hint: `freehold install catalog:${name}`,
        cause: error.cause,
      });
    }
  }
}

function llamaEngine(freehold: Freehold, log: Log, queueTimeoutMs: number | undefined): Engine {
  return createLlamaEngine({
    log,
    threadChoices: openThreadChoices(path.join(freehold.home.path, 'cache')),
    ...(queueTimeoutMs === undefined ? {} : { queueTimeoutMs }),
  });
}

type HostSummary = ModelSummary & { readonly item: InstalledPackage };

/**
 * The aliases whose packages are installed, then one summary per package name, of the variant that its name means: the
 * short name where it is unique, else the whole.
 */
function summaries(
  packages: readonly InstalledPackage[],
  budgetBytes: number,
  aliases: ModelAliases,
): HostSummary[] {
  const aliased = [...aliases].flatMap(([key, alias]) => {
    const item = packages.find((installed) => fullReference(installed) === fullReference(alias));
    return item === undefined ? [] : [summaryOf(key, item)];
  });
  const names = [...new Set(packages.map(({ name }) => name))];
  const shorts = names.map(shortName);
  const named = names.map((name) => {
    const item = resolveInstalled(packages, name, budgetBytes);
    const short = shortName(item.name);
    const isUnique = shorts.filter((other) => other === short).length === 1;
    return summaryOf(isUnique ? short : item.name, item);
  });
  return [...aliased, ...named.filter(({ id }) => !aliases.has(id))];
}

function summaryOf(id: string, item: InstalledPackage): HostSummary {
  return {
    id,
    reference: fullReference(item),
    // Packages carry no time, so that building twice gives the same bytes.
    createdSeconds: 0,
    owner: item.name.includes('/') ? item.name.slice(0, item.name.indexOf('/')) : 'local',
    item,
  };
}

interface HostAdapter extends LocalAdapter {
  readonly base: string;
}

async function openAdapters(options: readonly AdapterOption[]): Promise<readonly HostAdapter[]> {
  return Promise.all(
    options.map(async (option) => ({ ...(await openLocalAdapter(option)), base: option.base })),
  );
}

/** Those whose base means this version. Its variants are the same parameters in other precisions: an adapter fits all. */
function adaptersOf(
  adapters: readonly HostAdapter[],
  packages: readonly InstalledPackage[],
  aliases: ModelAliases,
  item: InstalledPackage,
): readonly HostAdapter[] {
  return adapters.filter(({ base }) => {
    const alias = aliases.get(base);
    return isVersionMeant(packages, alias === undefined ? base : fullReference(alias), item);
  });
}

function requireAdapter(base: string, adapter: string, adapters: readonly HostAdapter[]): void {
  const names = adapters.map(({ name }) => name);
  if (names.includes(adapter)) return;
  throw new FreeholdError(
    'MODEL_NOT_FOUND',
    `${base} has no adapter ${JSON.stringify(adapter)}${suggestion(adapter, names)}`,
    {
      hint:
        names.length === 0
          ? `freehold serve --adapter ${base}+NAME=FILE.gguf adds one`
          : `it has ${names.map((name) => `${base}+${name}`).join(', ')}`,
      detail: { param: 'model' },
    },
  );
}
