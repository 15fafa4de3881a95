import { suggestion } from '../base/did-you-mean.ts';
import { FreeholdError } from '../base/errors.ts';
import { quoted } from '../base/ids.ts';

/**
 * What happens to one field of a request. Every field is in exactly one of the three lists, so that nothing is
 * dropped in silence; `docs/API.md` shows these tables.
 */
export type FieldRule =
  | { readonly kind: 'honoured'; readonly note: string }
  | { readonly kind: 'without-effect'; readonly note: string }
  | {
      readonly kind: 'refused';
      readonly note: string;
      /** Values that ask for nothing beyond what happens anyway. `null` is always one. */
      readonly unless?: readonly unknown[];
    };

export type FieldTable = Readonly<Record<string, FieldRule>>;

const honoured = (note: string): FieldRule => ({ kind: 'honoured', note });
const withoutEffect = (note: string): FieldRule => ({ kind: 'without-effect', note });
const refused = (note: string, ...unless: unknown[]): FieldRule => ({ kind: 'refused', note, unless });

/** Fields that chat and plain completions share. */
const GENERATION_FIELDS: FieldTable = {
  model: honoured('name of an installed model, as `/v1/models` lists it'),
  temperature: honoured('0 to 2; 0 always takes the most likely token'),
  top_p: honoured('0 to 1'),
  top_k: honoured('extension: only the k most likely tokens; 0 turns it off'),
  min_p: honoured('extension: 0 to 1, relative to the most likely token'),
  repeat_penalty: honoured('extension: 0.01 to 10; 1 turns it off'),
  presence_penalty: honoured('-2 to 2'),
  frequency_penalty: honoured('-2 to 2'),
  logit_bias: honoured("token id of this model's own vocabulary → -100 to 100"),
  stop: honoured('a string, or up to 16 of them'),
  seed: honoured('an integer; taken modulo 2^32'),
  stream: honoured('server-sent events'),
  stream_options: honoured('`include_usage`; `include_obfuscation` is accepted without effect'),
  n: honoured('1 to 16 answers to each prompt, 128 in all'),
  grammar: honoured('extension: the answer is a sentence of this grammar (GBNF)'),
  user: honoured('whoever asks: requests of different users take turns; nothing is stored'),
};

export const CHAT_FIELDS: FieldTable = {
  ...GENERATION_FIELDS,
  messages: honoured('roles `system`, `developer` (read as `system`), `user`, `assistant`, `tool`'),
  max_tokens: honoured('at least 1'),
  max_completion_tokens: honoured('the same as `max_tokens`'),
  logprobs: honoured('`true` or `false`'),
  top_logprobs: honoured('0 to 20; needs `logprobs`'),
  response_format: honoured('`text`, `json_object` or `json_schema`; see below'),
  tools: honoured('up to 128 functions; see below'),
  tool_choice: honoured('`none`, `required` or one function by its name; see below'),
  parallel_tool_calls: honoured('`true`: up to 16 calls in one answer; one when absent'),
  safety_identifier: honoured('like `user`, before which it goes'),
  metadata: withoutEffect('nothing is stored'),
  store: withoutEffect('nothing is stored'),
  service_tier: withoutEffect('there is one tier'),
  prompt_cache_key: withoutEffect('the server decides about its caches by itself'),
  prompt_cache_options: withoutEffect('the server decides about its caches by itself'),
  prompt_cache_retention: withoutEffect('the server decides about its caches by itself'),
  functions: refused('use `tools`'),
  function_call: refused('use `tool_choice`'),
  modalities: refused('the models read and write text', ['text']),
  audio: refused('the models read and write text'),
  prediction: refused('not in this version'),
  reasoning_effort: refused('not in this version'),
  verbosity: refused('not in this version'),
  web_search_options: refused('nothing leaves the machine'),
  moderation: refused('not in this version'),
};

export const COMPLETION_FIELDS: FieldTable = {
  ...GENERATION_FIELDS,
  prompt: honoured('a string, an array of token ids, or up to 64 of either'),
  max_tokens: honoured('at least 1; 16 when absent, as OpenAI documents'),
  logprobs: honoured('0 to 5'),
  best_of: refused('every answer is returned', 1),
  echo: refused('not in this version', false),
  suffix: refused('not in this version', ''),
};

export const EMBEDDING_FIELDS: FieldTable = {
  model: honoured('name of an installed model, as `/v1/models` lists it'),
  input: honoured('a string, an array of token ids, or up to 2048 of either'),
  encoding_format: honoured('`float` or `base64` (little-endian 32-bit floats)'),
  dimensions: honoured("1 to the model's own length: the first components, at length 1 again; see below"),
  user: withoutEffect('nothing is stored'),
};

/** Fields of one element of `messages`, for the roles that are honoured. */
export const MESSAGE_FIELDS: FieldTable = {
  role: honoured('see above; `function` is refused'),
  content: honoured(
    'a string, or text parts, which are joined by a line feed; may be absent beside `tool_calls`',
  ),
  name: honoured('handed to the chat template, which may show it'),
  tool_calls: honoured('of the role `assistant`: up to 128 calls, each answered by one of the next messages'),
  tool_call_id: honoured('of the role `tool`: the call that it answers'),
  refusal: refused('there are no refusals here'),
  annotations: refused('not in this version', []),
  function_call: refused('use `tool_calls`'),
  audio: refused('the models read and write text'),
};

/** Fields of one element of `tool_calls`. */
export const TOOL_CALL_FIELDS: FieldTable = {
  id: honoured('what `tool_call_id` names; up to 1024 characters'),
  type: honoured('`function`'),
  function: honoured('`name` and `arguments`, the JSON text of an object; an empty text is read as `{}`'),
  index: withoutEffect('left over where a client put the call together from a stream'),
};

export const CALLED_FUNCTION_FIELDS: FieldTable = {
  name: honoured('as in `tools`'),
  arguments: honoured('the JSON text of an object'),
};

/** Fields of one element of `tools`. */
export const TOOL_FIELDS: FieldTable = {
  type: honoured('`function`'),
  function: honoured('see below'),
};

/** Fields of one `tools[].function`. */
export const FUNCTION_FIELDS: FieldTable = {
  name: honoured('1 to 64 letters, digits, `_` and `-`'),
  description: honoured('shown to the model'),
  parameters: honoured('JSON schema of the arguments; absent: an object with any members'),
  strict: withoutEffect('arguments always have the form of `parameters`'),
};

export const FORMAT_FIELDS: FieldTable = {
  type: honoured('`text`, `json_object`, `json_schema`'),
  json_schema: honoured('see below'),
};

/** Fields of `response_format.json_schema`. */
export const JSON_SCHEMA_FIELDS: FieldTable = {
  schema: honoured('the JSON schema'),
  name: withoutEffect('the model is not shown it'),
  description: withoutEffect('the model is not shown it'),
  strict: withoutEffect('the schema is always enforced'),
};

/** A name from the wire, short enough to be shown and logged. */
const PARAM_CHARACTERS_MAX = 128;

/**
 * Sorts the fields of an untrusted object by its table and returns those that are honoured; `null` means absent.
 * @param path how `param` names the object: empty for the body, `messages[0]`
 * @throws REQUEST_INVALID when it is no object, FIELD_NOT_SUPPORTED naming the first refused or unknown field
 */
export function selectHonoured(value: unknown, table: FieldTable, path = ''): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new FreeholdError('REQUEST_INVALID', `${path === '' ? 'the body' : path} is not a JSON object`, {
      detail: { param: path === '' ? null : path },
    });
  }
  const selected: [string, unknown][] = [];
  for (const [name, field] of Object.entries(value)) {
    const rule = Object.hasOwn(table, name) ? table[name] : undefined;
    if (rule === undefined)
      throw unsupported(name, path, `is unknown here${suggestion(name, Object.keys(table))}`);
    if (field === null || rule.kind === 'without-effect') continue;
    if (rule.kind === 'honoured') selected.push([name, field]);
    else if (!isNeutral(field, rule.unless ?? [])) throw unsupported(name, path, `is refused: ${rule.note}`);
  }
  return Object.fromEntries(selected);
}

function isNeutral(field: unknown, unless: readonly unknown[]): boolean {
  return unless.length > 0 && unless.some((value) => JSON.stringify(value) === JSON.stringify(field));
}

function unsupported(name: string, path: string, reason: string): FreeholdError {
  const param = `${path === '' ? '' : `${path}.`}${name}`.slice(0, PARAM_CHARACTERS_MAX);
  return new FreeholdError('FIELD_NOT_SUPPORTED', `${quoted(param)} ${reason}`, { detail: { param } });
}
