import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ChatTemplate, TEMPLATE_CHARACTERS_MAX } from './chat-template.ts';

const CHATML =
  "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] | trim + '<|im_end|>\\n' }}{% endfor %}" +
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
const VOCABULARY = {
  bosText: '<s>',
  eosText: '</s>',
  controls: new Map([
    ['<|im_start|>', 1],
    ['<|im_end|>', 2],
    ['<s>', 3],
    ['</s>', 4],
  ]),
};

const render = (source: string, content: string, continueLast = false): string => {
  const role = continueLast ? 'assistant' : 'user';
  const { text, marks } = new ChatTemplate(source, VOCABULARY).render([{ role, content }], continueLast);
  return marks.unmark(text);
};

test('a template sees messages, its tokens and whether to open an answer', () => {
  assert.equal(render(CHATML, ' Hi <b> '), '<|im_start|>user\nHi <b><|im_end|>\n<|im_start|>assistant\n');
  assert.equal(render('{{ bos_token }}{{ messages[0].content }}{{ eos_token }}', 'x'), '<s>x</s>');
});

test('a continued message ends the text, even when the template trims it', () => {
  assert.equal(render(CHATML, 'The answer is ', true), '<|im_start|>assistant\nThe answer is ');
  assert.equal(render(CHATML, '', true), '<|im_start|>assistant\n');
  assert.throws(() => render('{{ messages | length }}', 'x', true), { code: 'TEMPLATE_FAILED' });
});

test('reasoning templates still find their own tags in a message', () => {
  const source =
    "{% if '</think>' in messages[0].content %}{{ messages[0].content.split('</think>')[-1] }}{% endif %}";
  assert.equal(render(source, 'a < b</think>answer </s>'), 'answer </s>');
});

test("a template's own refusal reaches the caller in its words", () => {
  assert.throws(() => render("{{ raise_exception('roles must alternate') }}", 'x'), {
    code: 'TEMPLATE_FAILED',
    message: 'the chat template refused the messages: roles must alternate',
  });
});

test('what is not Jinja, too long, or grows without measure is refused', () => {
  assert.throws(() => render('{% for %}', 'x'), { code: 'TEMPLATE_FAILED', message: /cannot be parsed/ });
  assert.throws(() => render(' '.repeat(TEMPLATE_CHARACTERS_MAX + 1), 'x'), { code: 'TEMPLATE_FAILED' });
  const grows = '{% for i in range(3000) %}{{ messages[0].content }}{% endfor %}';
  assert.throws(() => render(grows, 'x'.repeat(10_000)), { code: 'TEMPLATE_FAILED', message: /at most/ });
});

test('a template cannot reach JavaScript', () => {
  for (const source of [
    '{{ messages.constructor }}',
    "{{ ''.constructor.constructor('return process')() }}",
    '{{ process.pid }}',
    '{{ globalThis }}',
    "{{ messages[0]['__proto__'] }}",
  ]) {
    let text = '';
    try {
      text = render(source, 'x');
    } catch (error) {
      assert.equal((error as { code?: string }).code, 'TEMPLATE_FAILED');
    }
    assert.doesNotMatch(text, /function|process|\d{2,}|object/i, source);
  }
});
