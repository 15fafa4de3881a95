import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { ChatMessage, ToolDefinition } from '../../../core/base/engine-port.ts';
import { ChatTemplate } from './chat-template.ts';
import { cutAtControls } from './content-marks.ts';

const CONTROLS = ['<|im_start|>', '<|im_end|>', '</s>', '[INST]', '[/INST]'];
const VOCABULARY = {
  bosText: '<s>',
  eosText: '</s>',
  controls: new Map(CONTROLS.map((text, index) => [text, index] as const)),
};

const WEATHER: ToolDefinition = {
  name: 'get_weather',
  description: 'Weather of a city',
  parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
};
const ASKED: ChatMessage = { role: 'user', content: 'Is it warm in Oslo?' };
const callOf = (id: string, city: string) => ({
  id,
  name: 'get_weather',
  arguments: JSON.stringify({ city }),
});
const CONVERSATION: readonly ChatMessage[] = [
  ASKED,
  { role: 'assistant', content: '', toolCalls: [callOf('call_abcdefgh', 'Oslo')] },
  { role: 'tool', content: '{"celsius":21}', toolCallId: 'call_abcdefgh' },
];

const NEWLINE = "{{ '\\n' }}";
const END = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
/** Writes every role as it comes. */
const PLAIN = `{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}${END}`;
const TOOLS = `{% if tools %}T{% for tool in tools %}{{ tool.function | tojson }}{% endfor %}${NEWLINE}{% endif %}`;
const each = (message: string) => `${TOOLS}{% for m in messages %}${message}${NEWLINE}{% endfor %}`;
const eachCall = (call: string) =>
  `{% if m.tool_calls %}{% for call in m.tool_calls %}${call}{% endfor %}{% endif %}`;
/** Arguments by `tojson`: Qwen, Hermes and most others. */
const BY_JSON = each(
  `{{ m.role }}:{{ m.content }}${eachCall('<call>{{ call.function.name }} {{ call.function.arguments | tojson }}')}`,
);
/** Arguments as they are, calls told by an empty content: DeepSeek. */
const BY_TEXT = each(
  `{% if m.content is none %}${eachCall("<call>{{ call.function.name + ' ' + call.function.arguments }}")}{% else %}{{ m.role + ':' + m.content }}{% endif %}`,
);
/** Members of the arguments, one after the other: the later Qwen. */
const BY_MEMBERS = each(
  `{{ m.role }}:{{ m.content }}${eachCall('{% for key, value in call.function.arguments | items %}<{{ call.function.name }} {{ key }}={{ value }}>{% endfor %}')}`,
);
/** One call for each message, and results as JSON: Llama 3. */
const ONE_CALL = each(
  "{% if 'tool_calls' in m %}{% if m.tool_calls | length != 1 %}{{ raise_exception('single calls only') }}{% endif %}" +
    '{{ m.tool_calls[0].function.name }} {{ m.tool_calls[0].function.arguments | tojson }}' +
    "{% elif m.role == 'tool' %}ipython:{{ m.content | tojson }}{% else %}{{ m.role }}:{{ m.content }}{% endif %}",
);
/** Ids of nine characters: Mistral. */
const SHORT_IDS = each(
  `{% if m.tool_calls is defined %}${eachCall("{% if call.id | length != 9 %}{{ raise_exception('ids of nine') }}{% endif %}{{ call.function | tojson }} {{ call.id }}")}` +
    "{% elif m.role == 'tool' %}{{ m.tool_call_id }}={{ m.content }}{% else %}{{ m.content }}{% endif %}",
);
/** No system message, users and assistants in turn: Gemma. */
const STRICT =
  "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}" +
  "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('must alternate') }}{% endif %}" +
  `{{ m.role }}:{{ m.content }}${NEWLINE}{% endfor %}`;

const render = (
  source: string,
  messages: readonly ChatMessage[],
  tools: readonly ToolDefinition[] = [],
  continueLast = false,
): string => {
  const { text, marks } = new ChatTemplate(source, VOCABULARY).render(messages, continueLast, tools);
  return marks.unmark(text);
};

const FUNCTION =
  '{"name": "get_weather", "description": "Weather of a city", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}';

test('templates get tools, calls and results in the form that they show', () => {
  for (const [source, expected] of [
    [
      BY_JSON,
      'user:Is it warm in Oslo?\nassistant:<call>get_weather {"city": "Oslo"}\ntool:{"celsius":21}\n',
    ],
    [BY_TEXT, 'user:Is it warm in Oslo?\n<call>get_weather {"city":"Oslo"}\ntool:{"celsius":21}\n'],
    [BY_MEMBERS, 'user:Is it warm in Oslo?\nassistant:<get_weather city=Oslo>\ntool:{"celsius":21}\n'],
    [ONE_CALL, 'user:Is it warm in Oslo?\nget_weather {"city": "Oslo"}\nipython:"{\\"celsius\\":21}"\n'],
    [
      SHORT_IDS,
      'Is it warm in Oslo?\n{"name": "get_weather", "arguments": {"city": "Oslo"}} call00000\ncall00000={"celsius":21}\n',
    ],
  ] as const) {
    assert.equal(render(source, CONVERSATION, [WEATHER]), `T${FUNCTION}\n${expected}`);
    // The definitions may be left out.
    assert.equal(render(source, CONVERSATION), expected);
    assert.equal(render(source, [ASKED], [WEATHER]).split('\n')[0], `T${FUNCTION}`);
  }
});

test('a template that knows no tools gets them as text that any template takes', () => {
  const definition =
    '{"name":"get_weather","description":"Weather of a city","parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}}';
  const system: ChatMessage = { role: 'system', content: 'Be brief.' };
  const text = render(PLAIN, [system, ...CONVERSATION, { role: 'user', content: 'So?' }], [WEATHER]);
  assert.match(text, /^<\|im_start\|>system\nBe brief\.\n\n/);
  assert.ok(text.includes(definition));
  assert.ok(
    text.endsWith(
      '<|im_start|>assistant\n{"name":"get_weather","arguments":{"city":"Oslo"}}<|im_end|>\n' +
        '<|im_start|>user\nResult of get_weather:\n{"celsius":21}\n\nSo?<|im_end|>\n<|im_start|>assistant\n',
    ),
    text,
  );
  assert.match(render(PLAIN, [ASKED], [WEATHER]), /^<\|im_start\|>system\nThese functions/);
  assert.match(
    render(STRICT, CONVERSATION, [WEATHER]),
    /^user:These functions[\s\S]*\n\nIs it warm in Oslo\?\nassistant:/,
  );
});

test('several calls and results: joined where roles must alternate, and where a template takes one call only', () => {
  const messages: readonly ChatMessage[] = [
    ASKED,
    { role: 'assistant', content: 'Let me see.', toolCalls: [callOf('a', 'Oslo'), callOf('b', 'Rome')] },
    { role: 'tool', content: '21', toolCallId: 'b' },
    { role: 'tool', content: '12', toolCallId: 'a' },
    { role: 'user', content: 'And?' },
    { role: 'assistant', content: 'Rome is' },
  ];
  for (const source of [STRICT, PLAIN, ONE_CALL]) {
    const text = render(source, messages, [], true);
    assert.ok(text.endsWith('Rome is'), text);
    assert.match(
      text,
      /Let me see\.\n\[\{"name":"get_weather","arguments":\{"city":"Oslo"\}\},\{"name":"get_weather","arguments":\{"city":"Rome"\}\}\]/,
    );
    assert.match(text, /Result of get_weather:\n21\n\nResult of get_weather:\n12\n\nAnd\?/);
  }
  assert.match(render(SHORT_IDS, messages), /call00001=21\ncall00000=12\n/);
});

test('conversations without tools are rendered as before', () => {
  const messages: readonly ChatMessage[] = [
    ASKED,
    { role: 'assistant', content: 'Yes.' },
    { role: 'user', content: 'Sure?' },
  ];
  for (const source of [BY_JSON, BY_TEXT, ONE_CALL, SHORT_IDS])
    assert.doesNotMatch(render(source, messages), /^T/);
  assert.equal(
    render(PLAIN, messages),
    '<|im_start|>user\nIs it warm in Oslo?<|im_end|>\n<|im_start|>assistant\nYes.<|im_end|>\n<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\n',
  );
  assert.equal(render('{{ tools is none }}', messages), 'true');
});

test("a template's refusal stays the answer when the other forms are refused too", () => {
  assert.throws(() => render("{{ raise_exception('never') }}", CONVERSATION, [WEATHER]), {
    code: 'TEMPLATE_FAILED',
    message: 'the chat template refused the messages: never',
  });
});

const hostile = fc
  .array(
    fc.constantFrom(...CONTROLS, '<', '[', 'im_end|>', '"', '\\', '\\uf8ff', '\\ue000', '\uf8ff', 'x', '\n'),
    { maxLength: 6 },
  )
  .map((parts) => parts.join(''));

test('nothing that stands in definitions, arguments, names or results becomes a control token', () => {
  const controlsOf = (rendered: string) =>
    cutAtControls(rendered, CONTROLS)
      .filter(({ kind }) => kind === 'control')
      .map(({ text }) => text);
  const conversation = (text: string): readonly ChatMessage[] => [
    ASKED,
    {
      role: 'assistant',
      content: '',
      toolCalls: [
        { id: text, name: `f${text}`, arguments: JSON.stringify({ [text]: [text, { [text]: 1 }] }) },
      ],
    },
    { role: 'tool', content: text, toolCallId: text },
  ];
  const tool = (text: string): ToolDefinition => ({
    name: `f${text}`,
    description: text,
    parameters: { type: 'object', properties: { [text]: { enum: [text] } } },
  });
  const ascii = `{% for tool in tools %}{{ tool | tojson(ensure_ascii=true) }}{% endfor %}${BY_JSON}`;
  for (const source of [BY_JSON, BY_TEXT, BY_MEMBERS, ONE_CALL, SHORT_IDS, PLAIN, ascii].map(
    (body) => `<|im_start|>${body}<|im_end|>`,
  )) {
    const template = new ChatTemplate(source, VOCABULARY);
    const harmless = controlsOf(template.render(conversation('y'), false, [tool('y')]).text);
    fc.assert(
      fc.property(hostile, (text) => {
        const { text: rendered, marks } = template.render(conversation(text), false, [tool(text)]);
        assert.deepEqual(controlsOf(rendered), harmless);
        // What the model reads is what was written.
        assert.ok(!marks.unmark(rendered).includes(marks.endMark));
        if (!/[\\"\n]/.test(text)) assert.ok(marks.unmark(rendered).includes(text));
      }),
      { numRuns: 60 },
    );
  }
});

test('a member named __proto__ is text like any other', () => {
  const parameters = JSON.parse('{"type":"object","properties":{"__proto__":{"type":"string"}}}');
  assert.match(render(BY_JSON, [ASKED], [{ name: 'f', parameters }]), /"__proto__": \{"type": "string"\}/);
});

test('a template that writes JSON in ASCII shows what was written', () => {
  const source = `{{ tools[0].function | tojson(ensure_ascii=true) }}{{ messages[0].content }}`;
  const text = render(
    source,
    [{ role: 'user', content: '\\uf8ff' }],
    [{ name: 'f', description: '<b>[x] é' }],
  );
  assert.ok(text.includes('"description": "<b>[x] \\u00e9"'), text);
  assert.ok(text.endsWith('\\uf8ff'), text);
});
