import type { JsonSchema, ToolDefinition, ToolUse } from '../base/engine-port.ts';
import { FreeholdError } from '../base/errors.ts';
import { quoted } from '../base/ids.ts';
import { CompilerBudget } from './compiler-budget.ts';
import { choice, type Expression, sequence, text } from './expression.ts';
import { requireUnambiguous } from './grammar-ambiguity.ts';
import { TOOL_CALLS_MAX } from './grammar-limits.ts';
import { GrammarRules } from './grammar-rules.ts';
import { SchemaCompiler } from './json-schema.ts';
import { AnyJson } from './json-value.ts';
import { SchemaDocument } from './schema-document.ts';

/**
 * A grammar of the answer that calls tools: `{"name":"x","arguments":{…}}`, and with `isParallel` a list of 1 to
 * `TOOL_CALLS_MAX` of them. `ToolCallReader` reads it.
 * @param tools whose `choice` is `required` or `named`
 * @throws SCHEMA_NOT_SUPPORTED with the path behind the tool: `tools[2].parameters#/properties/…`
 * @throws REQUEST_INVALID for no tool at all, an unknown one, two of one name, and the choice `none`
 */
export function compileToolCalls(tools: ToolUse): string {
  const rules = new GrammarRules('tools');
  const any = new AnyJson(rules);
  const budget = new CompilerBudget();
  const calls = chosenTools(tools).map(({ tool, index }) => {
    const { name } = tool;
    return sequence(
      text(`{"name":${JSON.stringify(name)},"arguments":`),
      argumentsGrammar(rules, any, budget, tool.parameters, `tools[${index}].parameters`),
      text('}'),
    );
  });
  if (!tools.isParallel) return requireUnambiguous(rules.text(choice(calls)), 'tools');
  const call = rules.define('call', choice(calls));
  const more = rules.counted('calls', sequence(text(','), call), 0, TOOL_CALLS_MAX - 1);
  return requireUnambiguous(rules.text(sequence(text('['), call, more, text(']'))), 'tools');
}

interface ChosenTool {
  readonly tool: ToolDefinition;
  readonly index: number;
}

function chosenTools({ definitions, choice: { kind, ...named } }: ToolUse): readonly ChosenTool[] {
  const invalid = (message: string) => new FreeholdError('REQUEST_INVALID', message);
  const names = definitions.map(({ name }) => name);
  const repeated = names.find((name, index) => names.indexOf(name) !== index);
  if (repeated !== undefined) throw invalid(`two tools have the name ${quoted(repeated)}`);
  const all = definitions.map((tool, index) => ({ tool, index }));
  if (kind === 'none') throw invalid('with the choice "none" no tool is called');
  const chosen = 'name' in named ? all.filter(({ tool }) => tool.name === named.name) : all;
  if (chosen.length > 0) return chosen;
  throw invalid(
    'name' in named ? `no tool has the name ${quoted(String(named.name))}` : 'there is no tool to call',
  );
}

/** An object, whatever else the schema allows. */
function argumentsGrammar(
  rules: GrammarRules,
  any: AnyJson,
  budget: CompilerBudget,
  parameters: JsonSchema | undefined,
  label: string,
): Expression {
  if (parameters === undefined) return any.object();
  const document = new SchemaDocument(parameters, label);
  const object = new SchemaDocument({ type: 'object' }, `${label} as an object `);
  return new SchemaCompiler(rules, any, document.path, budget).compile([document.start, object.start]);
}
