import { FreeholdError } from '../base/errors.ts';

/** Package names have at most 128 characters; leaves room for version, variant and adapter. */
export const MODEL_ID_CHARACTERS_MAX = 256;

/**
 * The name of a model as the host may be asked for it. Whatever cannot be a name is not looked up at all.
 * @throws MODEL_NOT_FOUND, the answer that clients know for a wrong name
 */
export function parseModelId(text: string): string {
  if (text.length === 0 || text.length > MODEL_ID_CHARACTERS_MAX || !/^[\x21-\x7e]+$/.test(text)) {
    const shown = JSON.stringify(text.toWellFormed().slice(0, 80));
    throw new FreeholdError('MODEL_NOT_FOUND', `no model has the name ${shown}`, {
      detail: { param: 'model' },
    });
  }
  return text;
}
