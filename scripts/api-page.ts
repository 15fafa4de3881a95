import {
  CHAT_FIELDS,
  COMPLETION_FIELDS,
  EMBEDDING_FIELDS,
  type FieldRule,
  type FieldTable,
  FUNCTION_FIELDS,
  JSON_SCHEMA_FIELDS,
  MESSAGE_FIELDS,
  TOOL_CALL_FIELDS,
} from '../src/core/wire/openai-fields.ts';

const TABLES: Readonly<Record<string, FieldTable>> = {
  chat: CHAT_FIELDS,
  message: MESSAGE_FIELDS,
  call: TOOL_CALL_FIELDS,
  function: FUNCTION_FIELDS,
  schema: JSON_SCHEMA_FIELDS,
  completions: COMPLETION_FIELDS,
  embeddings: EMBEDDING_FIELDS,
};

const KINDS: readonly [FieldRule['kind'], string][] = [
  ['honoured', 'honoured'],
  ['without-effect', 'accepted without effect'],
  ['refused', 'refused'],
];

/** docs/API.md with its field tables written anew; the text around them stays. */
export function apiPage(page: string): string {
  return page.replace(
    /(<!-- fields: (\w+) -->\n)[\s\S]*?(<!-- end -->)/g,
    (_, start: string, name: string, end: string) => `${start}\n${fieldTable(TABLES[name] ?? {})}\n\n${end}`,
  );
}

function fieldTable(table: FieldTable): string {
  const lines = ['| field | what happens | notes |', '|---|---|---|'];
  for (const [kind, shown] of KINDS) {
    for (const [field, rule] of Object.entries(table)) {
      if (rule.kind === kind) lines.push(`| \`${field}\` | ${shown} | ${noteOf(rule)} |`);
    }
  }
  return lines.join('\n');
}

function noteOf(rule: FieldRule): string {
  if (rule.kind !== 'refused' || rule.unless === undefined || rule.unless.length === 0) return rule.note;
  return `${rule.note}; ${rule.unless.map((value) => `\`${JSON.stringify(value)}\``).join(', ')} is accepted`;
}
