import { FreeholdError } from '../../../core/base/errors.ts';

/** Native code indexes tables with them. @throws REQUEST_INVALID */
export function requireKnownTokens(tokens: readonly number[], tokenCount: number): void {
  const unknown = tokens.find((token) => token >= tokenCount);
  if (unknown !== undefined) {
    throw new FreeholdError(
      'REQUEST_INVALID',
      `token ${unknown} is not one of the ${tokenCount} of this model`,
    );
  }
}

/** @param what `prompt`, or `input 3` */
export function contextExceeded(
  what: string,
  promptTokens: number,
  contextTokens: number,
  isLowerBound = false,
): FreeholdError {
  return new FreeholdError(
    'CONTEXT_EXCEEDED',
    `the ${what} has ${isLowerBound ? 'at least ' : ''}${promptTokens} tokens, the context of the model has room for ${contextTokens}`,
    { detail: { promptTokens, contextTokens } },
  );
}
