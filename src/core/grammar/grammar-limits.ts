/** Of a whole grammar. A schema of a hundred members makes 20 kB; llama.cpp's parser is linear in it. */
export const GRAMMAR_CHARACTERS_MAX = 1 << 20;
/** Of a compiled schema. llama.cpp keeps a vector and a name for each. */
export const RULES_MAX = 20_000;
/** Values inside each other in a schema, `enum` and `const` included; people stay under 20. */
export const SCHEMA_DEPTH_MAX = 128;
/** Values in a schema, each member, item and scalar counted: bounds the work before anything is compiled. */
export const SCHEMA_VALUES_MAX = 200_000;
/** Steps of the compiler: merged schemas, compared branches, checked values. 100,000 take about 100 ms. */
export const COMPILER_STEPS_MAX = 200_000;
/** Ways in which the `anyOf` and `oneOf` of one place can be combined. */
export const COMBINATIONS_MAX = 256;
/** `$ref`, `allOf`, `anyOf` and `oneOf` that lead to each other without a value in between. */
export const REFERENCE_CHAIN_MAX = 64;
/** Of one object. OpenAI allows 5,000 in a whole schema. */
export const PROPERTIES_MAX = 2_000;

/** Longer strings and arrays do not fit into a context: a larger `max…` is cut to this, a larger `min…` is refused. */
export const REPETITIONS_MAX = 65_536;
/**
 * llama.cpp refuses repetitions from 2,000 on (MAX_REPETITION_THRESHOLD in llama-grammar.cpp), and takes `{0,2001}` for
 * `{0,}` without a word.
 */
export const NATIVE_REPETITIONS_MAX = 1_999;

/** Integer digits of a number. The largest unsigned 64-bit integer, a usual `maximum`, has 20. */
export const INTEGER_DIGITS_MAX = 20;
/** Decimals of a number; the last ones that a double can tell apart next to 1. */
export const FRACTION_DIGITS_MAX = 15;

/** Of one `pattern`. */
export const PATTERN_CHARACTERS_MAX = 2_000;
/** Groups inside each other in one `pattern`. */
export const PATTERN_DEPTH_MAX = 50;
/** States of the automaton of one string, before and after it is made deterministic; each can become a rule. */
export const AUTOMATON_STATES_MAX = 4_000;
/** Steps for all strings of one request together; a million take about 300 ms. */
export const AUTOMATON_STEPS_MAX = 1_000_000;

/** Tool calls of one answer. OpenAI names no limit; models rarely make more than a handful. */
export const TOOL_CALLS_MAX = 16;
