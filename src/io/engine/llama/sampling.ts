import type { SamplingParameters } from '../../../core/base/engine-port.ts';
import { FreeholdError } from '../../../core/base/errors.ts';
import {
  LOGIT_BIASES_MAX,
  REPEAT_PENALTY_MAX,
  REPEAT_PENALTY_MIN,
} from '../../../core/base/request-limits.ts';

/** Every parameter with its value; what the child is told. */
export interface ResolvedSampling {
  readonly temperature: number;
  readonly topP: number;
  readonly topK: number;
  readonly minP: number;
  readonly repeatPenalty: number;
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
  readonly logitBias: Readonly<Record<number, number>>;
  /** Absent: drawn at random. */
  readonly seed?: number;
}

/**
 * llama.cpp's own defaults, which most published models are tried with; penalties are off, since they damage code
 * and quotations.
 */
export const SAMPLING_DEFAULTS: ResolvedSampling = {
  temperature: 0.8,
  topP: 0.95,
  topK: 40,
  minP: 0.05,
  repeatPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  logitBias: {},
};

const RANGES: readonly [Exclude<keyof ResolvedSampling, 'logitBias' | 'seed'>, number, number][] = [
  ['temperature', 0, 100],
  ['topP', 0, 1],
  ['topK', 0, 2 ** 31 - 1],
  ['minP', 0, 1],
  ['repeatPenalty', REPEAT_PENALTY_MIN, REPEAT_PENALTY_MAX],
  ['presencePenalty', -100, 100],
  ['frequencyPenalty', -100, 100],
];

/**
 * Request over package over engine, each parameter by itself.
 * @throws REQUEST_INVALID naming the parameter and its range
 */
export function resolveSampling(
  request: SamplingParameters = {},
  packageDefaults: SamplingParameters = {},
): ResolvedSampling {
  const seed = request.seed ?? packageDefaults.seed;
  const sampling: ResolvedSampling = {
    temperature: request.temperature ?? packageDefaults.temperature ?? SAMPLING_DEFAULTS.temperature,
    topP: request.topP ?? packageDefaults.topP ?? SAMPLING_DEFAULTS.topP,
    topK: request.topK ?? packageDefaults.topK ?? SAMPLING_DEFAULTS.topK,
    minP: request.minP ?? packageDefaults.minP ?? SAMPLING_DEFAULTS.minP,
    repeatPenalty: request.repeatPenalty ?? packageDefaults.repeatPenalty ?? SAMPLING_DEFAULTS.repeatPenalty,
    presencePenalty:
      request.presencePenalty ?? packageDefaults.presencePenalty ?? SAMPLING_DEFAULTS.presencePenalty,
    frequencyPenalty:
      request.frequencyPenalty ?? packageDefaults.frequencyPenalty ?? SAMPLING_DEFAULTS.frequencyPenalty,
    logitBias: request.logitBias ?? packageDefaults.logitBias ?? SAMPLING_DEFAULTS.logitBias,
    ...(seed === undefined ? {} : { seed }),
  };
  requireSampling(sampling);
  return sampling;
}

function requireSampling(sampling: ResolvedSampling): void {
  for (const [name, low, high] of RANGES) {
    const value = sampling[name];
    if (!(value >= low && value <= high)) throw outside(name, value, low, high);
  }
  if (!Number.isInteger(sampling.topK)) throw outside('topK', sampling.topK, 0, 2 ** 31 - 1);
  const { seed } = sampling;
  if (seed !== undefined && !(Number.isInteger(seed) && seed >= 0 && seed < 2 ** 32)) {
    throw outside('seed', seed, 0, 2 ** 32 - 1);
  }
  const biases = Object.entries(sampling.logitBias);
  if (biases.length > LOGIT_BIASES_MAX) {
    throw new FreeholdError(
      'REQUEST_INVALID',
      `logitBias has ${biases.length} entries, at most ${LOGIT_BIASES_MAX} are allowed`,
    );
  }
  for (const [token, bias] of biases) {
    if (!/^\d{1,7}$/.test(token)) {
      throw new FreeholdError(
        'REQUEST_INVALID',
        `logitBias has a token ${token.slice(0, 40)}, which no model has`,
      );
    }
    if (!(bias >= -100 && bias <= 100)) throw outside(`logitBias[${token}]`, bias, -100, 100);
  }
}

function outside(name: string, value: number, low: number, high: number): FreeholdError {
  return new FreeholdError('REQUEST_INVALID', `${name} is ${value}, it must be from ${low} to ${high}`, {
    detail: { param: name },
  });
}
