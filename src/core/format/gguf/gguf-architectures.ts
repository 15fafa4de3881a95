/**
 * What llama.cpp v0.5.0 asserts, which ends the process, while it builds the graph of an architecture: found in its
 * sources (`src/models/`), and by loading models of each architecture with and without it.
 */
export interface ArchitectureRule {
  /** Keys and values of a head have one length. */
  readonly equalHeads: boolean;
  /** All of a head is rotated. */
  readonly wholeRotation: boolean;
  /** There is no dense variant. */
  readonly needsExperts: boolean;
}

const EQUAL_HEADS =
  'afmoe apertus arcee arctic baichuan bailingmoe bailingmoe2 bert bitnet bloom chameleon chatglm codeshell ' +
  'cogvlm cohere2 cohere2moe command-r dbrx deci deepseek deepseek2-ocr dflash dots1 dream eagle3 ernie4_5 ' +
  'ernie4_5-moe eurobert exaone exaone-moe exaone4 falcon gemma gemma2 gemma3 gemma4 glm4 glm4moe gpt-oss ' +
  'gpt2 gptneox granite granite_swa granitehybrid granitemoe graniteswitch grok grovemoe hrm_text ' +
  'hunyuan-dense hunyuan-moe hunyuan_vl hy_v3 internlm2 jais jais2 jamba jina-bert-v2 jina-bert-v3 laguna ' +
  'lfm2 lfm2moe llada llada-moe llama llama-embed llama4 maincoder maple mellum minicpm minimax-01 ' +
  'minimax-m2 minimax-m3 mistral3 modern-bert mpt muse-glimmer nanbeige nemotron nemotron_h nemotron_h_moe ' +
  'neo-bert nomic-bert nomic-bert-moe olmo olmo2 olmoe openelm orion paddleocr pangu-embedded phi2 phi3 ' +
  'phimoe plamo pockettts qwen qwen2 qwen2moe qwen2vl qwen3 qwen35 qwen35moe qwen3moe qwen3next qwen3tts ' +
  'qwen3vl qwen3vlmoe qwen4exp refact rnd1 seed_oss smallthinker smollm3 spark2_5 stablelm starcoder ' +
  'starcoder2 t5 t5encoder talkie xverse';
const WHOLE_ROTATION =
  'apertus arcee arctic baichuan bailingmoe chameleon codeshell cogvlm cohere2moe dbrx deepseek dots1 dream ' +
  'ernie4_5 ernie4_5-moe exaone exaone-moe exaone4 gpt-oss granite granite_swa granitemoe graniteswitch ' +
  'grok grovemoe hunyuan-dense hunyuan-moe hunyuan_vl hy_v3 internlm2 jais2 llada llada-moe llama4 ' +
  'maincoder mellum minicpm mistral3 olmo olmo2 olmoe orion paddleocr pangu-embedded plamo pockettts qwen2 ' +
  'qwen2moe qwen2vl qwen3 qwen3moe qwen3tts qwen3vl qwen3vlmoe rnd1 seed_oss smallthinker smollm3 ' +
  'starcoder2 talkie xverse';
const NEEDS_EXPERTS = 'bailingmoe2 glm4moe grovemoe lfm2moe llada-moe smallthinker';

const equalHeads = new Set(EQUAL_HEADS.split(' '));
const wholeRotation = new Set(WHOLE_ROTATION.split(' '));
const needsExperts = new Set(NEEDS_EXPERTS.split(' '));

/** Nothing is asked of an architecture that is not known: llama.cpp refuses it by itself. */
export function architectureRule(architecture: string): ArchitectureRule {
  return {
    equalHeads: equalHeads.has(architecture),
    wholeRotation: wholeRotation.has(architecture),
    needsExperts: needsExperts.has(architecture),
  };
}
