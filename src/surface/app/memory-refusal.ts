import { FreeholdError } from '../../core/base/errors.ts';
import type { MemoryEstimate } from '../../core/format/gguf/memory-estimate.ts';

/** A model that holds a part of the budget. */
export interface MemoryHolder {
  readonly name: string;
  readonly bytes: number;
  readonly state: 'idle' | 'at work' | 'pinned' | 'loading';
}

/** What is known when there is no room for a model. */
export interface MemoryShortage {
  readonly budgetBytes: number;
  /** What this machine could give now. */
  readonly availableBytes: number;
  readonly holders: readonly MemoryHolder[];
  /**
   * `never`: not even without the others. `held`: others must end first. `machine`: the budget would do, but other
   * programs have the memory.
   */
  readonly kind: 'never' | 'held' | 'machine';
}

/** The least that the model would need. */
export interface MemoryDemand {
  readonly name: string;
  readonly estimate: MemoryEstimate;
  readonly contextTokens: number;
  readonly parallelRequests: number;
  /** A context that would fit; undefined when none does. */
  readonly fittingContextTokens?: number | undefined;
  /** Another installed variant that is smaller. */
  readonly smallerVariant?: string | undefined;
}

/** The refusal of a load with all numbers in it: BUSY when waiting helps, else OUT_OF_MEMORY. */
export function memoryRefusal(demand: MemoryDemand, shortage: MemoryShortage): FreeholdError {
  const { estimate, contextTokens, parallelRequests } = demand;
  const { budgetBytes, availableBytes, kind } = shortage;
  return new FreeholdError(
    kind === 'held' ? 'BUSY' : 'OUT_OF_MEMORY',
    `${demand.name} needs ${needText(demand)}; ${shortageText(shortage)}`,
    {
      hint: kind === 'held' ? 'try again when they are done, or raise --memory' : hintText(demand, kind),
      detail: {
        neededBytes: estimate.totalBytes,
        budgetBytes,
        availableBytes,
        contextTokens,
        parallelRequests,
        fittingContextTokens: demand.fittingContextTokens ?? null,
      },
    },
  );
}

function needText({ estimate, contextTokens, parallelRequests }: MemoryDemand): string {
  const requests = parallelRequests === 1 ? 'a context' : `${parallelRequests} contexts`;
  const parts = [
    `weights ${sizeText(estimate.weightsBytes)}`,
    `${requests} of ${contextTokens} tokens ${sizeText(estimate.contextBytes)}`,
    `work ${sizeText(estimate.workBytes)}`,
    `process ${sizeText(estimate.processBytes)}`,
  ];
  return `${sizeText(estimate.totalBytes)} (${parts.join(', ')})`;
}

function shortageText({ budgetBytes, availableBytes, holders, kind }: MemoryShortage): string {
  if (kind === 'machine') {
    return `this machine has ${sizeText(availableBytes)} available, other programs use the rest`;
  }
  const budget = `the budget is ${sizeText(budgetBytes)}`;
  if (holders.length === 0) return budget;
  const held = holders.map(({ name, bytes, state }) => `${name} ${sizeText(bytes)} (${state})`);
  return `${budget}, of which others hold: ${held.join(', ')}`;
}

function hintText({ fittingContextTokens, smallerVariant }: MemoryDemand, kind: string): string {
  const ways = [
    ...(fittingContextTokens === undefined ? [] : [`--context ${fittingContextTokens} would fit`]),
    ...(smallerVariant === undefined ? [] : [`a smaller variant is ${smallerVariant}`]),
    ...(kind === 'machine' ? ['end other programs'] : ['--memory raises the budget']),
    ...(fittingContextTokens === undefined && smallerVariant === undefined
      ? ['or choose a smaller model']
      : []),
  ];
  return ways.join('; ');
}

/** `5.3 GiB`, `312 MiB`. */
export function sizeText(bytes: number): string {
  const mebibytes = bytes / 2 ** 20;
  return mebibytes < 1000 ? `${Math.ceil(mebibytes)} MiB` : `${(mebibytes / 1024).toFixed(1)} GiB`;
}
