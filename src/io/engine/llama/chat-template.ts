import { Template, tokenize } from '@huggingface/jinja';
import type { ChatMessage } from '../../../core/base/engine-port.ts';
import { FreeholdError } from '../../../core/base/errors.ts';
import { ContentMarks } from './content-marks.ts';

/** The longest published templates (tools, reasoning) are about 30 kB. */
export const TEMPLATE_CHARACTERS_MAX = 256 << 10;
/** What a template may add to the messages: reasonable ones add a few tokens per message. */
const RENDERED_CHARACTERS_EXTRA_MAX = 1 << 20;
/** A template that repeats every message (as some do for tools) still passes. */
const RENDERED_CHARACTERS_FACTOR_MAX = 4;
/** An exception message of a template reaches the caller: one paragraph. */
const REASON_CHARACTERS_MAX = 500;

export interface RenderedChat {
  /** With marks in it: see `ContentMarks`. */
  readonly text: string;
  readonly marks: ContentMarks;
}

/**
 * A Jinja chat template. It runs in the engine process and can reach nothing there: the interpreter knows its own values
 * only. An endless one is ended by the server, which kills the process.
 */
export class ChatTemplate {
  readonly #template: Template;
  readonly #literals: readonly string[];
  readonly #controlTexts: readonly string[];
  readonly #tokens: { readonly bos_token: string; readonly eos_token: string };

  /** @throws TEMPLATE_FAILED when the source is too long or not Jinja */
  constructor(
    source: string,
    vocabulary: { bosText: string; eosText: string; controls: ReadonlyMap<string, number> },
  ) {
    if (source.length > TEMPLATE_CHARACTERS_MAX) {
      throw failed(`has ${source.length} characters, at most ${TEMPLATE_CHARACTERS_MAX} are allowed`);
    }
    try {
      this.#template = new Template(source);
      this.#literals = stringLiterals(source);
    } catch (cause) {
      throw failed(`cannot be parsed: ${reasonOf(cause)}`, cause);
    }
    this.#controlTexts = [...vocabulary.controls.keys()];
    this.#tokens = { bos_token: vocabulary.bosText, eos_token: vocabulary.eosText };
  }

  /**
   * @param continueLast the text ends with the last message, for the model to go on
   * @throws TEMPLATE_FAILED with the template's own words, REQUEST_INVALID
   */
  render(messages: readonly ChatMessage[], continueLast: boolean): RenderedChat {
    const written = messages.flatMap((message) => [message.content, message.name ?? '']);
    const marks = new ContentMarks(this.#controlTexts, this.#literals, written);
    const lastIndex = messages.length - 1;
    const marked = messages.map((message, index) => ({
      role: message.role,
      content: marks.mark(message.content) + (continueLast && index === lastIndex ? marks.endMark : ''),
      ...(message.name === undefined ? {} : { name: marks.mark(message.name) }),
    }));
    const text = this.#run({ messages: marked, add_generation_prompt: !continueLast, ...this.#tokens });
    const writtenCharacters = written.reduce((sum, part) => sum + part.length, 0);
    const charactersMax = RENDERED_CHARACTERS_EXTRA_MAX + RENDERED_CHARACTERS_FACTOR_MAX * writtenCharacters;
    if (text.length > charactersMax) {
      throw failed(
        `wrote ${text.length} characters for messages of ${writtenCharacters}, at most ${charactersMax} are allowed`,
      );
    }
    return { text: continueLast ? cutAtEnd(text, marks.endMark) : text, marks };
  }

  #run(variables: Record<string, unknown>): string {
    try {
      return this.#template.render(variables);
    } catch (cause) {
      throw failed(`refused the messages: ${reasonOf(cause)}`, cause);
    }
  }
}

function cutAtEnd(text: string, endMark: string): string {
  const parts = text.split(endMark);
  if (parts.length !== 2)
    throw failed('does not show the last message exactly once, so it cannot be continued');
  return parts[0] as string;
}

function stringLiterals(source: string): readonly string[] {
  // The package's declarations do not resolve under NodeNext, so its tokens are typed here.
  const tokens: readonly { readonly type: string; readonly value: string }[] = tokenize(source);
  return [...new Set(tokens.filter((token) => token.type === 'StringLiteral').map((token) => token.value))];
}

function reasonOf(thrown: unknown): string {
  const text = thrown instanceof Error ? thrown.message : String(thrown);
  return text.length > REASON_CHARACTERS_MAX ? `${text.slice(0, REASON_CHARACTERS_MAX)}…` : text;
}

function failed(what: string, cause?: unknown): FreeholdError {
  return new FreeholdError(
    'TEMPLATE_FAILED',
    `the chat template ${what}`,
    cause === undefined ? {} : { cause },
  );
}
