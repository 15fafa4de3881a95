import { z } from 'zod';
import { FreeholdError } from '../base/errors.ts';
import { quoted } from '../base/ids.ts';
import { invalid, unsupported, wellFormedText } from './openai-shape.ts';

const TextPart = z.strictObject({
  type: z.literal('text'),
  text: wellFormedText(),
  // A hint for a cache, without effect like `prompt_cache_options`.
  prompt_cache_breakpoint: z.unknown().optional(),
});

/** Parts that carry something else than text, with the word for it. */
const OTHER_MODALITIES: Readonly<Record<string, string>> = {
  image_url: 'an image',
  input_audio: 'audio',
  file: 'a file',
};

/**
 * The `content` of a message: a string, or text parts, joined by a line feed as the other local servers do for
 * templates that take one string.
 * @throws REQUEST_INVALID, FIELD_NOT_SUPPORTED, MODALITY_NOT_SUPPORTED, each with `detail.param`
 */
export function parseText(content: unknown, param: string): string {
  if (typeof content === 'string') {
    if (!content.isWellFormed()) throw invalid(param, 'contains half of a surrogate pair');
    return content;
  }
  if (!Array.isArray(content) || content.length === 0) {
    throw invalid(param, 'is neither text nor a list of text parts');
  }
  return content.map((part: unknown, index) => parsePart(part, `${param}[${index}]`)).join('\n');
}

function parsePart(part: unknown, param: string): string {
  const type = typeof part === 'object' && part !== null && 'type' in part ? part.type : undefined;
  const other =
    typeof type === 'string' && Object.hasOwn(OTHER_MODALITIES, type) ? OTHER_MODALITIES[type] : undefined;
  if (other !== undefined) {
    throw new FreeholdError(
      'MODALITY_NOT_SUPPORTED',
      `${param} is ${other}, and the models here read text only`,
      { detail: { param } },
    );
  }
  if (typeof type === 'string' && type !== 'text') {
    throw unsupported(`${param}.type`, `parts of the type ${quoted(type)} are refused`);
  }
  const result = TextPart.safeParse(part);
  if (!result.success) throw invalid(param, result.error.issues[0]?.message ?? 'is not a text part');
  return result.data.text;
}
