import { Template, tokenize } from '@huggingface/jinja';
import type { ChatMessage, ToolDefinition } from '../../../core/base/engine-port.ts';
import { FreeholdError } from '../../../core/base/errors.ts';
import { ContentMarks } from './content-marks.ts';
import {
  CALL_FORMS,
  type CallForm,
  findCallForm,
  markDefinition,
  markMessage,
  showsTools,
  templateMessage,
  templateTool,
  toolConversation,
} from './template-tools.ts';
import { plainConversation, type ToolMessage } from './tool-text.ts';

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
 *
 * Tools and their calls are handed to it in the shape of OpenAI's API, as published templates expect them. Where it does
 * not show them (many templates of small models do not), they become part of the messages: see `plainConversation`.
 */
export class ChatTemplate {
  readonly #template: Template;
  readonly #literals: readonly string[];
  readonly #controlTexts: readonly string[];
  readonly #tokens: { readonly bos_token: string; readonly eos_token: string };
  #showsTools: boolean | undefined;
  /** Null: it does not show calls and their results. */
  #callForm: CallForm | null | undefined;

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
   * @param messages calls hold JSON texts of objects, results answer calls before them
   * @param continueLast the text ends with the last message, for the model to go on
   * @param tools that the model is told of
   * @throws TEMPLATE_FAILED with the template's own words, REQUEST_INVALID
   */
  render(
    messages: readonly ChatMessage[],
    continueLast: boolean,
    tools: readonly ToolDefinition[] = [],
  ): RenderedChat {
    const conversation = toolConversation(messages);
    const written = JSON.stringify([conversation, tools]);
    const marks = new ContentMarks(this.#controlTexts, this.#literals, [written]);
    const marked = conversation.map((message) => markMessage(marks, message));
    const last = marked.at(-1);
    if (continueLast && last !== undefined) {
      marked[marked.length - 1] = { ...last, content: last.content + marks.endMark };
    }
    const markedTools = tools.map((tool) => markDefinition(marks, tool));
    const text = marks.restoreEscaped(this.#renderMarked(marked, markedTools, !continueLast));
    const charactersMax = RENDERED_CHARACTERS_EXTRA_MAX + RENDERED_CHARACTERS_FACTOR_MAX * written.length;
    if (text.length > charactersMax) {
      throw failed(
        `wrote ${text.length} characters for messages of ${written.length}, at most ${charactersMax} are allowed`,
      );
    }
    return { text: continueLast ? cutAtEnd(text, marks.endMark) : text, marks };
  }

  /** In the template's own way if it has one and it works, else as plain messages. */
  #renderMarked(
    messages: readonly ToolMessage[],
    tools: readonly ToolDefinition[],
    opensAnswer: boolean,
  ): string {
    const hasCalls = messages.some(({ role, calls }) => role === 'tool' || calls.length > 0);
    if (tools.length === 0 && !hasCalls)
      return this.#run(plainConversation(messages, [], 'system'), null, opensAnswer);
    const attempts: (() => string)[] = [];
    const callForm = hasCalls ? this.#callFormOf() : CALL_FORMS[0];
    if (callForm !== null && callForm !== undefined && (tools.length === 0 || this.#canShowTools())) {
      const shown = tools.length === 0 ? null : tools.map(templateTool);
      const native = messages.map((message) => templateMessage(message, callForm));
      attempts.push(() => this.#run(native, shown, opensAnswer));
    }
    for (const place of ['system', 'user'] as const) {
      attempts.push(() => this.#run(plainConversation(messages, tools, place), null, opensAnswer));
    }
    return firstThatWorks(attempts);
  }

  #canShowTools(): boolean {
    this.#showsTools ??= showsTools((messages, tools) => this.#run(messages, tools, true));
    return this.#showsTools;
  }

  #callFormOf(): CallForm | null {
    if (this.#callForm === undefined) {
      this.#callForm = findCallForm((messages, tools) => this.#run(messages, tools, true)) ?? null;
    }
    return this.#callForm;
  }

  /** @param tools null as in the library that published templates are written for, where it is never undefined */
  #run(messages: readonly object[], tools: readonly object[] | null, opensAnswer: boolean): string {
    try {
      return this.#template.render({ messages, tools, add_generation_prompt: opensAnswer, ...this.#tokens });
    } catch (cause) {
      throw failed(`refused the messages: ${reasonOf(cause)}`, cause);
    }
  }
}

function firstThatWorks(attempts: readonly (() => string)[]): string {
  let refusal: unknown;
  for (const attempt of attempts) {
    try {
      return attempt();
    } catch (error) {
      refusal ??= error;
    }
  }
  throw refusal;
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
