import type { ChatMessage, GenerateRequest, LoadedModel, Usage } from '../../core/base/engine-port.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { type Terminal, withoutControls } from './terminal.ts';

export interface Answer {
  readonly text: string;
  readonly finish: 'stop' | 'length' | 'tool-calls' | 'cancelled';
  readonly usage?: Usage;
}

/**
 * Streams one answer to stdout (with --json as NDJSON events) and returns it. A cancelled answer is returned as far as
 * it came; other failures throw.
 */
export async function streamAnswer(
  terminal: Terminal,
  model: LoadedModel,
  request: GenerateRequest,
  signal: AbortSignal,
): Promise<Answer> {
  let text = '';
  const write = (part: string) => {
    text += part;
    if (terminal.json) terminal.event({ kind: 'text', text: part });
    else terminal.streams.stdout.write(terminal.streams.stdout.isTTY ? withoutControls(part) : part);
  };
  try {
    for await (const event of model.generate(request, signal)) {
      if (event.kind === 'text' && event.text !== '') write(event.text);
      if (event.kind === 'finished') return { text, finish: event.reason, usage: event.usage };
    }
  } catch (error) {
    if (error instanceof FreeholdError && error.code === 'CANCELLED') return { text, finish: 'cancelled' };
    throw error;
  }
  throw new FreeholdError('ENGINE_FAILED', 'the answer ended without an end mark');
}

/** `42 tokens, 61.3 tokens/s, prompt 18 tokens in 0.2 s`. */
export function usageText(usage: Usage): string {
  const rate = usage.completionMs > 0 ? (usage.completionTokens * 1000) / usage.completionMs : 0;
  const prompt = `prompt ${usage.promptTokens} tokens in ${(usage.promptMs / 1000).toFixed(1)} s`;
  return `${usage.completionTokens} tokens, ${rate.toFixed(1)} tokens/s, ${prompt}`;
}

/** The conversation so far, with the system message, if there is one, before it. */
export function chatPrompt(
  system: string | undefined,
  history: readonly ChatMessage[],
): GenerateRequest['prompt'] {
  const first: ChatMessage[] = system === undefined ? [] : [{ role: 'system', content: system }];
  return { kind: 'chat', messages: [...first, ...history] };
}
