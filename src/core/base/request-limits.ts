/**
 * Limits of one request. A door checks them first, since it knows what the client calls the field; the engine checks
 * them again. The numbers stand here once, so that an engine takes whatever a door lets through.
 */

/** Of a request. OpenAI takes 4; local users stop at every role marker of a template. */
export const REQUEST_STOP_STRINGS_MAX = 16;
/** Of a package, on top of those of the request. */
export const PACKAGE_STOP_STRINGS_MAX = 16;
/** Text that could begin one is held back, so a stream never stalls for more than this. */
export const STOP_STRING_CHARACTERS_MAX = 512;
/** OpenAI's own limit is 300; each one is looked up once per token. */
export const LOGIT_BIASES_MAX = 1024;
/** A logit divided by less than this is no penalty any more but an explosion. */
export const REPEAT_PENALTY_MIN = 0.01;
export const REPEAT_PENALTY_MAX = 10;
/** OpenAI's own bound for `top_logprobs`. */
export const TOP_LOGPROBS_MAX = 20;
/** OpenAI's own bound; the chat template shows all of them to the model. */
export const TOOLS_MAX = 128;
/** Worked on at once by one model: llama.cpp's own limit is 256, and each has a memory of its own. */
export const PARALLEL_REQUESTS_MAX = 64;
