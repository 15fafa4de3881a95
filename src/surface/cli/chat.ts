import { createInterface, type Interface } from 'node:readline/promises';
import type { ChatMessage, GenerateRequest, LoadedModel } from '../../core/base/engine-port.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { chatPrompt, streamAnswer, usageText } from './answer.ts';
import type { Terminal } from './terminal.ts';

const HELP = `/clear   forget the conversation
/system TEXT   set the system message and start anew (without TEXT: none)
/exit    end (Ctrl-D does it as well)
""" on a line of its own begins and ends a text of several lines
Ctrl-C   stops the answer; at the prompt, twice ends`;

/**
 * A conversation on a terminal. Ctrl-C stops the running answer, not the program; the conversation so far, a stopped
 * answer included, is the context of the next question. Nothing is written to disk.
 */
export class Chat {
  readonly #terminal: Terminal;
  readonly #model: LoadedModel;
  readonly #request: Omit<GenerateRequest, 'prompt'>;
  #system: string | undefined;
  #history: ChatMessage[] = [];
  #running: AbortController | undefined;
  #isEnding = false;
  /** Lines typed while an answer ran: they are the next questions. */
  readonly #typedAhead: string[] = [];

  constructor(
    terminal: Terminal,
    model: LoadedModel,
    request: Omit<GenerateRequest, 'prompt'>,
    system: string | undefined,
  ) {
    this.#terminal = terminal;
    this.#model = model;
    this.#request = request;
    this.#system = system;
  }

  /** Runs until the user leaves. `signal` ends it from outside (SIGTERM). */
  async run(signal: AbortSignal): Promise<void> {
    const { stdin, stdout } = this.#terminal.streams;
    const reader = createInterface({ input: stdin, output: stdout, terminal: true, historySize: 1000 });
    const end = new AbortController();
    const onAbort = () => end.abort();
    signal.addEventListener('abort', onAbort);
    reader.on('SIGINT', () => this.#interrupt(reader, end));
    reader.on('close', () => end.abort());
    reader.on('line', (line) => this.#typedAhead.push(line));
    this.#terminal.note(
      this.#terminal.paint('faint', '/help lists what you can type; Ctrl-C stops an answer'),
    );
    try {
      while (!end.signal.aborted && !this.#isEnding) {
        const text = await this.#readInput(reader, end.signal);
        if (text === undefined) return;
        this.#isEnding = await this.#handle(text);
      }
    } finally {
      signal.removeEventListener('abort', onAbort);
      reader.close();
    }
  }

  #interruptedAtPrompt = false;

  #interrupt(reader: Interface, end: AbortController): void {
    if (this.#running !== undefined) {
      this.#running.abort(new FreeholdError('CANCELLED', 'stopped by the user'));
      return;
    }
    if (this.#interruptedAtPrompt) {
      end.abort();
      return;
    }
    this.#interruptedAtPrompt = true;
    reader.write(null, { ctrl: true, name: 'u' });
    this.#terminal.streams.stdout.write('\n(once more to leave)\n');
    reader.prompt();
  }

  async #readInput(reader: Interface, signal: AbortSignal): Promise<string | undefined> {
    const ask = async (prompt: string): Promise<string | undefined> => {
      const typed = this.#typedAhead.shift();
      if (typed !== undefined) {
        this.#terminal.streams.stdout.write(`${prompt}${typed}\n`);
        return typed;
      }
      try {
        return await reader.question(prompt, { signal });
      } catch {
        return undefined;
      }
    };
    const first = await ask(this.#terminal.paint('accent', '> '));
    if (first?.trim() !== '"""') return first;
    const lines: string[] = [];
    for (;;) {
      const line = await ask(this.#terminal.paint('accent', '… '));
      if (line === undefined || line.trim() === '"""') return lines.join('\n');
      lines.push(line);
    }
  }

  /** @returns true when the user wants to leave */
  async #handle(text: string): Promise<boolean> {
    this.#interruptedAtPrompt = false;
    const trimmed = text.trim();
    if (trimmed === '') return false;
    const [verb = '', ...rest] = trimmed.split(' ');
    switch (trimmed.startsWith('/') ? verb : '') {
      case '/exit':
      case '/bye':
      case '/quit':
        return true;
      case '/help':
        this.#terminal.note(HELP);
        return false;
      case '/clear':
        this.#history = [];
        this.#terminal.note('forgotten');
        return false;
      case '/system':
        this.#system = rest.length === 0 ? undefined : rest.join(' ');
        this.#history = [];
        this.#terminal.note(this.#system === undefined ? 'no system message' : 'system message set');
        return false;
      default:
        await this.#answer(text);
        return false;
    }
  }

  async #answer(text: string): Promise<void> {
    this.#running = new AbortController();
    const question: ChatMessage = { role: 'user', content: text };
    const history = [...this.#history, question];
    try {
      const answer = await streamAnswer(
        this.#terminal,
        this.#model,
        { ...this.#request, prompt: chatPrompt(this.#system, history) },
        this.#running.signal,
      );
      this.#terminal.streams.stdout.write('\n');
      const remark = answer.usage === undefined ? 'stopped' : usageText(answer.usage);
      this.#terminal.note(this.#terminal.paint('faint', remark));
      this.#history = [...history, { role: 'assistant', content: answer.text }];
    } catch (error) {
      // A question that failed is not part of the conversation; the program goes on.
      if (!(error instanceof FreeholdError)) throw error;
      this.#terminal.note(
        `\n${this.#terminal.paint('bad', 'error:')} ${error.message} [${error.code}]\nhint:  ${error.hint}`,
      );
    } finally {
      this.#running = undefined;
    }
  }
}
