import type { GeneratedToken, GenerateEvent } from '../../../core/base/engine-port.ts';

interface TextBuffer {
  readonly kind: 'text';
  text: string;
  readonly tokens: GeneratedToken[];
}

/**
 * Events on their way to one reader. Text that nobody has read yet is joined, so that a slow reader costs the memory of
 * the answer, not of its tokens' events; an answer is no longer than the context, so nothing need hold the model back.
 */
export class EventQueue {
  readonly #events: (TextBuffer | Exclude<GenerateEvent, { kind: 'text' }>)[] = [];
  #end: { readonly error?: Error } | undefined;
  #wake: (() => void) | undefined;

  push(event: GenerateEvent): void {
    if (this.#end !== undefined) return;
    const last = this.#events.at(-1);
    if (event.kind === 'text' && last?.kind === 'text') {
      last.text += event.text;
      last.tokens.push(...event.tokens);
    } else {
      this.#events.push(event.kind === 'text' ? { ...event, tokens: [...event.tokens] } : event);
    }
    if (event.kind === 'finished') this.#end = {};
    this.#wake?.();
  }

  /** What has arrived is still delivered, then the reader gets `error`. */
  fail(error: Error): void {
    this.#end ??= { error };
    this.#wake?.();
  }

  /** The reader gets `error` at once. */
  failNow(error: Error): void {
    if (this.#end !== undefined && this.#events.length === 0) return;
    this.#events.length = 0;
    this.#end = { error };
    this.#wake?.();
  }

  async *read(): AsyncGenerator<GenerateEvent, void, undefined> {
    for (;;) {
      const event = this.#events.shift();
      if (event !== undefined) {
        yield event;
        if (event.kind === 'finished') return;
        continue;
      }
      if (this.#end?.error !== undefined) throw this.#end.error;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
  }
}
