import type { GgufPlan, PlanEntry, PlanValue } from './gguf-plan.ts';

/** Each try loads a file; what is left then is small enough to read. */
const TRIES_MAX = 400;

/**
 * The smallest file that still does the same: entries, tensors and elements are dropped, and what was overridden is set
 * right, as long as `persists` says so.
 */
export async function minimisePlan(
  plan: GgufPlan,
  persists: (smaller: GgufPlan) => Promise<boolean>,
): Promise<GgufPlan> {
  let best = plan;
  let tries = 0;
  for (let isSmaller = true; isSmaller; ) {
    isSmaller = false;
    for (const candidate of smallerPlans(best)) {
      if (tries++ > TRIES_MAX) return best;
      if (!(await persists(candidate))) continue;
      best = candidate;
      isSmaller = true;
      break;
    }
  }
  return best;
}

function* smallerPlans(plan: GgufPlan): Generator<GgufPlan> {
  const { tensorCount, entryCount, ...rest } = plan;
  if (tensorCount !== undefined || entryCount !== undefined) yield rest;
  if (plan.cutBytes !== 0) yield { ...plan, cutBytes: 0 };
  if (plan.fill !== 'zeros') yield { ...plan, fill: 'zeros' };
  if (plan.version !== 3) yield { ...plan, version: 3 };
  for (const span of [8, 1]) {
    for (let at = 0; at < plan.entries.length; at += span)
      yield { ...plan, entries: plan.entries.toSpliced(at, span) };
    for (let at = 0; at < plan.tensors.length; at += span)
      yield { ...plan, tensors: plan.tensors.toSpliced(at, span) };
  }
  for (const [index, entry] of plan.entries.entries()) {
    for (const smaller of smallerEntries(entry))
      yield { ...plan, entries: plan.entries.with(index, smaller) };
  }
}

function* smallerEntries(entry: PlanEntry): Generator<PlanEntry> {
  for (const value of smallerValues(entry.value)) yield { ...entry, value };
}

function* smallerValues(value: PlanValue): Generator<PlanValue> {
  if (value.kind !== 'list' || value.elements.length < 2) return;
  for (const length of [1, Math.ceil(value.elements.length / 2)]) {
    if (length < value.elements.length) yield { ...value, elements: value.elements.slice(0, length) };
  }
}

/** A plan in words, for a report: what it is made of, without its data. */
export function describePlan(plan: GgufPlan): string {
  const entries = plan.entries.map(
    ({ key, value }) => `${key.toString('latin1').slice(0, 80)} = ${describeValue(value)}`,
  );
  const tensors = plan.tensors.map(
    ({ name, dimensions, type, offset }) =>
      `${name.toString('latin1').slice(0, 80)} [${dimensions.join(', ')}] type ${type}${offset === undefined ? '' : ` at ${offset}`}`,
  );
  return [`origin: ${plan.origin}; version ${plan.version}, fill ${plan.fill}`, ...entries, ...tensors].join(
    '\n    ',
  );
}

function describeValue(value: PlanValue): string {
  if (value.kind === 'plain') return `type ${value.type} ${value.bytes.toString('hex')}`;
  if (value.kind === 'text') return JSON.stringify(value.bytes.toString('latin1').slice(0, 40));
  return `${value.elements.length} of type ${value.elementType}: ${value.elements.slice(0, 4).map((element) => element.toString('hex').slice(0, 32))}`;
}
