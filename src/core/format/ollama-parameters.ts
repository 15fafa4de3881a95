import { z } from 'zod';
import { quoted } from '../base/ids.ts';
import { parseForeignJson } from './foreign-artifact.ts';
import {
  generationParametersSchema,
  type PackageDescriptor,
  STOP_STRINGS_MAX,
} from './package-descriptor.ts';

type GenerationParameters = NonNullable<PackageDescriptor['parameters']>;

/** Ollama's names of what Freehold has as well. */
const OLLAMA_PARAMETERS: Readonly<Record<string, Exclude<keyof GenerationParameters, 'stop'>>> = {
  temperature: 'temperature',
  top_p: 'topP',
  top_k: 'topK',
  min_p: 'minP',
  repeat_penalty: 'repeatPenalty',
  presence_penalty: 'presencePenalty',
  frequency_penalty: 'frequencyPenalty',
};

/**
 * Reads the defaults of an Ollama model. Values that Freehold does not know, or that are out of its range, are named, not
 * dropped silently.
 * @throws MANIFEST_INVALID
 */
export function parseOllamaParameters(
  bytes: Uint8Array,
  label: string,
): { readonly parameters: GenerationParameters | undefined; readonly remarks: readonly string[] } {
  const stated = parseForeignJson(bytes, z.record(z.string(), z.unknown()), `${label}: params`);
  const taken: Record<string, unknown> = {};
  const unknown: string[] = [];
  for (const [name, value] of Object.entries(stated)) {
    const ours =
      name === 'stop' ? 'stop' : Object.hasOwn(OLLAMA_PARAMETERS, name) ? OLLAMA_PARAMETERS[name] : undefined;
    // More stop strings than a package may have: the first ones end most answers.
    const usable =
      ours === 'stop' && Array.isArray(value) ? [...new Set(value)].slice(0, STOP_STRINGS_MAX) : value;
    const isFine = ours !== undefined && generationParametersSchema.safeParse({ [ours]: usable }).success;
    if (isFine) taken[ours] = usable;
    else unknown.push(name);
  }
  return {
    parameters: Object.keys(taken).length === 0 ? undefined : generationParametersSchema.parse(taken),
    remarks:
      unknown.length === 0
        ? []
        : [`these settings of Ollama are left out: ${unknown.slice(0, 20).map(quoted).join(', ')}`],
  };
}
