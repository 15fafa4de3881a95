import assert from 'node:assert/strict';
import { test } from 'node:test';
import { changedModel } from '../../../../tests/fixtures/small-gguf.ts';
import { TINY_VOCABULARY_TOKENS as TOKENS } from '../../../../tests/fixtures/tiny-model.ts';
import { ggufNumbers, ggufStrings } from './gguf-array.ts';
import type { GgufValue } from './gguf-types.ts';
import { ggufValue } from './gguf-values.ts';
import { verifyModelGguf } from './gguf-verification.ts';

const { string, boolean, number, array } = ggufValue;

function texts(text: (index: number) => string): GgufValue {
  return array(ggufStrings(Array.from({ length: TOKENS }, (_, index) => text(index))));
}
const byteText = (byte: number) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`;

async function verified(keys: Readonly<Record<string, GgufValue | undefined>>): Promise<void> {
  verifyModelGguf(await changedModel({ keys }));
}

test('a SentencePiece vocabulary spells every byte, or a text could end the process', async () => {
  const model = { 'tokenizer.ggml.model': string('llama') };
  await verified({
    ...model,
    'tokenizer.ggml.tokens': texts((index) => (index < 256 ? byteText(index) : `t${index}`)),
  });
  // A single character will do for its byte.
  const spelled = (index: number) => (index === 65 ? 'A' : byteText(index));
  await verified({
    ...model,
    'tokenizer.ggml.tokens': texts((index) => (index < 256 ? spelled(index) : `t${index}`)),
  });
  for (const [missing, text] of [
    [0xe9, 'x'],
    [0x0a, '<0x0a>'],
  ] as const) {
    const tokens = texts((index) => (index === missing ? text : index < 256 ? byteText(index) : `t${index}`));
    await assert.rejects(verified({ ...model, 'tokenizer.ggml.tokens': tokens }), {
      code: 'GGUF_INVALID',
      message: new RegExp(`has no token for the byte ${byteText(missing)}`),
    });
  }
});

test('a token that is to be added is there', async () => {
  const keys = {
    'tokenizer.ggml.model': string('t5'),
    'tokenizer.ggml.bos_token_id': undefined,
    'tokenizer.ggml.add_bos_token': boolean(true),
  };
  await assert.rejects(verified(keys), {
    code: 'GGUF_INVALID',
    message: /bos_token_id is missing, and is to be added/,
  });
  await verified({ ...keys, 'tokenizer.ggml.bos_token_id': number('uint32', 3) });
  await verified({ ...keys, 'tokenizer.ggml.add_bos_token': boolean(false) });
});

test('the tokenizer of BERT has no byte tokens', async () => {
  const types = Array.from({ length: TOKENS }, (_, index) => (index === 9 ? 6 : 1));
  const keys = {
    'tokenizer.ggml.model': string('bert'),
    'tokenizer.ggml.tokens': texts((index) => (index === 9 ? '<0x0A>' : `t${index}`)),
    'tokenizer.ggml.token_type': array(ggufNumbers('int32', types)),
  };
  await assert.rejects(verified(keys), { code: 'GGUF_INVALID', message: /token_type is 6 for token 9/ });
});

test('a vocabulary of RWKV spells every byte, or a text could fill the memory', async () => {
  const model = { 'tokenizer.ggml.model': string('rwkv') };
  const escaped = (byte: number) => {
    if (byte === 9) return '\\t';
    if (byte === 0x5c) return '\\\\';
    return byte > 0x20 && byte < 0x7f
      ? String.fromCharCode(byte)
      : `\\x${byte.toString(16).padStart(2, '0')}`;
  };
  const all = (lost: number) =>
    texts((index) => (index < 256 && index !== lost ? escaped(index) : `t${index}`));
  await verified({ ...model, 'tokenizer.ggml.tokens': all(-1) });
  await assert.rejects(verified({ ...model, 'tokenizer.ggml.tokens': all(0xe9) }), {
    code: 'GGUF_INVALID',
    message: /has no token for the byte <0xE9>/,
  });
});

test('without a tokenizer the declared number of tokens is that of the table', async () => {
  const keys = { 'tokenizer.ggml.model': string('none'), 'tokenizer.ggml.tokens': undefined };
  await verified({ ...keys, 'llama.vocab_size': number('uint32', TOKENS) });
  await assert.rejects(verified({ ...keys, 'llama.vocab_size': number('uint32', 1 << 20) }), {
    code: 'GGUF_INVALID',
    message: /has 1048576 tokens, and token_embd\.weight has \d+ rows/,
  });
});
