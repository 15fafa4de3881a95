import type { GeneratedToken, GenerateEvent, GenerateRequest, Usage } from '../base/engine-port.ts';
import { FreeholdError } from '../base/errors.ts';

type FinishedEvent = Extract<GenerateEvent, { kind: 'finished' }>;

/** One finished generation. */
export interface Answer {
  readonly text: string;
  /** Absent unless log-probabilities were asked for. */
  readonly tokens?: readonly GeneratedToken[];
  readonly calls: readonly AnswerCall[];
  readonly reason: FinishedEvent['reason'];
  readonly usage: Usage;
}

export interface AnswerCall {
  readonly name: string;
  /** JSON text; cut where the reason is `length`. */
  readonly arguments: string;
}

/** Puts the events of one generation together. */
export class AnswerBuilder {
  readonly #wantsTokens: boolean;
  readonly #texts: string[] = [];
  readonly #tokens: GeneratedToken[] = [];
  readonly #calls: { readonly name: string; readonly pieces: string[] }[] = [];
  #finished: FinishedEvent | undefined;

  constructor(generation: GenerateRequest) {
    this.#wantsTokens = generation.logprobs !== undefined;
  }

  add(event: GenerateEvent): void {
    switch (event.kind) {
      case 'started':
        return;
      case 'text':
        this.#texts.push(event.text);
        if (this.#wantsTokens) this.#tokens.push(...event.tokens);
        return;
      case 'tool-call':
        this.#calls[event.index] = { name: event.name, pieces: [] };
        return;
      case 'tool-arguments':
        this.#calls[event.index]?.pieces.push(event.text);
        return;
      case 'finished':
        this.#finished = event;
    }
  }

  /** @throws INTERNAL without a `finished` event: a truncated answer is never delivered as a complete one */
  finish(): Answer {
    if (this.#finished === undefined) throw new FreeholdError('INTERNAL', 'an answer without its end');
    const { reason, usage } = this.#finished;
    return {
      text: this.#texts.join(''),
      ...(this.#wantsTokens ? { tokens: this.#tokens } : {}),
      calls: this.#calls.map(({ name, pieces }) => ({ name, arguments: pieces.join('') })),
      reason,
      usage,
    };
  }
}

/**
 * Follows the events of one generation and throws where a model breaks its contract: something after the end, an end
 * that never comes, a call that nobody asked for, out of order, or arguments without one.
 */
export class GenerationOrder {
  readonly #mayCall: boolean;
  #calls = 0;
  #isFinished = false;

  constructor(generation: GenerateRequest) {
    this.#mayCall = generation.tools !== undefined && generation.tools.choice.kind !== 'none';
  }

  /** @throws INTERNAL */
  follow(event: GenerateEvent): void {
    if (this.#isFinished) throw broken(`sent ${event.kind} after the end`);
    switch (event.kind) {
      case 'tool-call':
        if (!this.#mayCall) throw broken('called a tool that nobody asked for');
        if (event.index !== this.#calls) throw broken(`began call ${event.index} after ${this.#calls} calls`);
        this.#calls += 1;
        return;
      case 'tool-arguments':
        if (event.index !== this.#calls - 1) throw broken(`sent arguments of call ${event.index}`);
        return;
      case 'finished':
        this.#isFinished = true;
        return;
      default:
        return;
    }
  }

  /** @throws INTERNAL */
  requireEnd(): void {
    if (!this.#isFinished) throw broken('ended without saying that it has finished');
  }
}

function broken(what: string): FreeholdError {
  return new FreeholdError('INTERNAL', `the engine ${what}`);
}
