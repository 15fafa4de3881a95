import type { Usage } from '../base/engine-port.ts';

export interface OpenAiUsage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
  readonly prompt_tokens_details: { readonly cached_tokens: number };
}

/**
 * The sum over all choices of one request. Choices of one prompt share it, so its tokens count once. All but the first
 * find it evaluated: what was there before the request is what the one that found the least has found.
 * @param usages one for each choice, by its `index`
 */
export function encodeUsage(usages: readonly Usage[], choicesPerPrompt: number): OpenAiUsage {
  const completion = usages.reduce((total, usage) => total + usage.completionTokens, 0);
  let prompt = 0;
  let cached = 0;
  for (let first = 0; first < usages.length; first += choicesPerPrompt) {
    const choices = usages.slice(first, first + choicesPerPrompt);
    prompt += choices[0]?.promptTokens ?? 0;
    cached += Math.min(...choices.map((usage) => usage.cachedTokens));
  }
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: { cached_tokens: cached },
  };
}
