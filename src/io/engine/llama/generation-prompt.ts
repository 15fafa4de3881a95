import { FreeholdError } from '../../../core/base/errors.ts';
import type { ChatTemplate } from './chat-template.ts';
import type { NativeModel } from './native-model.ts';
import { contextExceeded, requireKnownTokens } from './prompt-fit.ts';
import { tokenizeRendered, tokenizeText } from './prompt-tokens.ts';
import type { GenerateMessage } from './protocol.ts';

type PromptModel = Pick<NativeModel, 'facts' | 'vocabulary'>;

/**
 * The tokens of a request's prompt, which leave room for at least one more.
 * @param template throws NOT_SUPPORTED where the model has none
 * @param onRendered called before a text is tokenized: the time that a long one takes is not the template's
 * @throws CONTEXT_EXCEEDED, TEMPLATE_FAILED, NOT_SUPPORTED, REQUEST_INVALID
 */
export function readPrompt(
  model: PromptModel,
  { prompt }: Pick<GenerateMessage, 'prompt'>,
  template: () => ChatTemplate,
  onRendered: () => void,
): readonly number[] {
  const tokens = promptTokens(model, prompt, template, onRendered);
  if (tokens.length === 0) throw new FreeholdError('REQUEST_INVALID', 'the prompt is empty');
  const { contextTokens } = model.facts;
  if (tokens.length + 1 > contextTokens) throw contextExceeded('prompt', tokens.length, contextTokens);
  return tokens;
}

function promptTokens(
  model: PromptModel,
  prompt: GenerateMessage['prompt'],
  template: () => ChatTemplate,
  onRendered: () => void,
): number[] {
  const { vocabulary } = model;
  if (prompt.kind === 'chat') {
    const chat = template().render(prompt.messages, prompt.continueLast, prompt.tools);
    onRendered();
    requireTextFit(model, chat.text);
    return tokenizeRendered(vocabulary, chat.marks, chat.text);
  }
  onRendered();
  if (prompt.kind === 'text') {
    requireTextFit(model, prompt.text);
    return tokenizeText(vocabulary, prompt.text);
  }
  requireKnownTokens(prompt.tokens, vocabulary.tokenCount);
  return [...prompt.tokens];
}

/** Below so many units for each token of the context, tokenizing is quicker than looking for the longest token. */
const UNITS_PER_TOKEN_TYPICAL = 16;

/**
 * Refuses by its length alone what can never fit: 15 MB take a tokenizer ten seconds, and it hears of no cancellation.
 * @throws CONTEXT_EXCEEDED
 */
function requireTextFit({ facts, vocabulary }: PromptModel, text: string): void {
  const { contextTokens } = facts;
  if (text.length <= contextTokens * UNITS_PER_TOKEN_TYPICAL) return;
  const tokensMin = Math.ceil(text.length / vocabulary.longestTokenUnits());
  if (tokensMin > contextTokens) throw contextExceeded('prompt', tokensMin, contextTokens, true);
}
