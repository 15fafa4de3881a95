import { ggufNumbers, ggufStrings } from '../../src/core/format/gguf/gguf-array.ts';
import { ggufValue } from '../../src/core/format/gguf/gguf-values.ts';
import { type GgufPlan, keyOf, planValue } from './gguf-plan.ts';
import { anyValue, type Change, changedValue, pick, smallNumber, withKey } from './odd-values.ts';

/** What hyper-parameters say of the model, against the shapes of its tensors. */
export function hyperparameterChanges(libraryKeys: readonly string[]): Readonly<Record<string, Change>> {
  const architectureOf = (plan: GgufPlan) => {
    const value = plan.entries.find((entry) => keyOf(entry) === 'general.architecture')?.value;
    return value?.kind === 'text' ? value.bytes.toString('latin1') : 'llama';
  };
  const ownKeys = (plan: GgufPlan) => {
    const own = `${architectureOf(plan)}.`;
    return plan.entries.map(keyOf).filter((key) => key.startsWith(own));
  };
  return {
    'own hyper-parameter': (random, plan) => {
      const keys = ownKeys(plan);
      return keys.length === 0
        ? plan
        : withKey(plan, pick(random, keys), random.below(3) === 0 ? anyValue(random) : smallNumber(random));
    },
    'drop hyper-parameter': (random, plan) => {
      const keys = ownKeys(plan);
      const gone = keys.length === 0 ? '' : pick(random, keys);
      return { ...plan, entries: plan.entries.filter((entry) => keyOf(entry) !== gone) };
    },
    'any hyper-parameter': (random, plan) =>
      libraryKeys.length === 0
        ? plan
        : withKey(
            plan,
            `${architectureOf(plan)}${pick(random, libraryKeys)}`,
            random.below(2) === 0 ? anyValue(random) : smallNumber(random),
          ),
  };
}

const TOKENIZER_MODELS = [
  'llama',
  'gpt2',
  'bert',
  't5',
  'rwkv',
  'plamo2',
  'none',
  'no_vocab',
  'gemma4',
  'hybriddna',
  'x',
  '',
];
const TOKEN_ROLES = [
  'bos',
  'eos',
  'eot',
  'eom',
  'unknown',
  'seperator',
  'padding',
  'mask',
  'cls',
  'fim_pre',
  'fim_pad',
  'prefix',
];

/** Vocabularies. */
export const TOKENIZER_CHANGES: Readonly<Record<string, Change>> = {
  'tokenizer model': (random, plan) =>
    withKey(plan, 'tokenizer.ggml.model', planValue(ggufValue.string(pick(random, TOKENIZER_MODELS)))),
  'tokenizer pre': (random, plan) =>
    withKey(
      plan,
      'tokenizer.ggml.pre',
      planValue(
        ggufValue.string(
          pick(random, [
            'default',
            'llama-bpe',
            'qwen2',
            'gpt-2',
            'deepseek-llm',
            'chatglm-bpe',
            'tekken',
            'x',
          ]),
        ),
      ),
    ),
  'token id': (random, plan) =>
    withKey(
      plan,
      `tokenizer.ggml.${pick(random, TOKEN_ROLES)}_token_id`,
      random.below(3) === 0 ? anyValue(random) : smallNumber(random),
    ),
  'token array': (random, plan) => {
    const keys = [
      'tokens',
      'scores',
      'token_type',
      'merges',
      'suppress_tokens',
      'eog_token_ids',
      'precompiled_charsmap',
    ];
    const key = `tokenizer.ggml.${pick(random, keys)}`;
    const old = plan.entries.find((entry) => keyOf(entry) === key)?.value;
    return withKey(
      plan,
      key,
      old === undefined || random.below(3) === 0 ? anyValue(random) : changedValue(random, old),
    );
  },
  'sound scores': (random, plan) =>
    withKey(
      plan,
      'tokenizer.ggml.scores',
      planValue(
        ggufValue.array(
          ggufNumbers(
            'float32',
            Array.from({ length: 283 }, () => -random.below(9)),
          ),
        ),
      ),
    ),
  'byte tokens': (_random, plan) => {
    const texts = Array.from({ length: 283 }, (_, index) =>
      index < 27 ? `t${index}` : `<0x${(index - 27).toString(16).toUpperCase().padStart(2, '0')}>`,
    );
    const types = texts.map((_, index) => (index < 27 ? 1 : 6));
    return withKey(
      withKey(plan, 'tokenizer.ggml.tokens', planValue(ggufValue.array(ggufStrings(texts)))),
      'tokenizer.ggml.token_type',
      planValue(ggufValue.array(ggufNumbers('int32', types))),
    );
  },
  'bytes of rwkv': (_random, plan) => {
    const texts = Array.from({ length: 283 }, (_, index) =>
      index < 27 ? `t${index}` : `\\x${(index - 27).toString(16).padStart(2, '0')}`,
    );
    const tokens = withKey(plan, 'tokenizer.ggml.tokens', planValue(ggufValue.array(ggufStrings(texts))));
    return withKey(tokens, 'tokenizer.ggml.model', planValue(ggufValue.string('rwkv')));
  },
  'token flag': (random, plan) =>
    withKey(
      plan,
      `tokenizer.ggml.${pick(random, ['add_bos_token', 'add_eos_token', 'add_sep_token', 'add_space_prefix', 'remove_extra_whitespaces', 'escape_whitespaces'])}`,
      random.below(4) === 0 ? anyValue(random) : planValue(ggufValue.boolean(random.below(2) === 1)),
    ),
};
