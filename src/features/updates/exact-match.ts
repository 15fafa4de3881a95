import { z } from 'zod';
import { parseConfigYaml } from '../../core/base/config-file.ts';
import type { ChatMessage, LoadedModel } from '../../core/base/engine-port.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { describeIssues } from '../../core/base/json-document.ts';
import { parseStrictJson } from '../../core/base/strict-json.ts';

/** Each case is answered twice, by a small model in about a second. */
const CASES_MAX = 10_000;
const TEXT_CHARACTERS_MAX = 100_000;
const MESSAGES_MAX = 200;
const LINE_BYTES_MAX = 1 << 20;
/** An answer that should match word for word is short; one that never ends must not stop an update. */
const ANSWER_TOKENS_MAX = 512;

const text = z.string().max(TEXT_CHARACTERS_MAX);
const messageSchema = z.strictObject({
  role: z.enum(['system', 'user', 'assistant']),
  content: text,
});
const caseSchema = z
  .strictObject({
    prompt: text.optional(),
    messages: z.array(messageSchema).min(1).max(MESSAGES_MAX).optional(),
    expected: text,
    // Of the common schema of conversations; nothing here depends on them.
    labels: z.unknown().optional(),
    tags: z.unknown().optional(),
    source: z.unknown().optional(),
  })
  .refine(
    ({ prompt, messages }) => (prompt === undefined) !== (messages === undefined),
    'either "prompt" or "messages"',
  );
const suiteSchema = z.strictObject({
  minScore: z.number().min(0).max(1).optional(),
  cases: z.array(caseSchema).min(1).max(CASES_MAX),
});

/** Questions with the one right answer to each. */
export interface ExactMatchSuite {
  /** Share of right answers that a candidate must reach, 0 … 1. */
  readonly minScore?: number;
  readonly cases: readonly { readonly messages: readonly ChatMessage[]; readonly expected: string }[];
}

/**
 * Reads a suite: YAML with `cases` (and perhaps `minScore`), or JSONL with one case in each line.
 * @throws CONFIG_INVALID with the line
 */
export function parseExactMatchSuite(content: string, label: string): ExactMatchSuite {
  const isLines = label.endsWith('.jsonl');
  const { cases, minScore } = isLines
    ? { cases: parseLines(content, label), minScore: undefined }
    : parseConfigYaml(content, suiteSchema, label);
  return {
    ...(minScore === undefined ? {} : { minScore }),
    cases: cases.map(({ prompt, messages, expected }) => ({
      messages: messages ?? [{ role: 'user', content: prompt ?? '' }],
      expected,
    })),
  };
}

function parseLines(content: string, label: string): z.infer<typeof caseSchema>[] {
  const lines = content.split('\n').flatMap((line, index) => (line.trim() === '' ? [] : [{ line, index }]));
  if (lines.length === 0 || lines.length > CASES_MAX) {
    throw new FreeholdError('CONFIG_INVALID', `${label}: ${lines.length} cases, 1 to ${CASES_MAX} are read`);
  }
  return lines.map(({ line, index }) => {
    const where = `${label} line ${index + 1}`;
    const json = parseStrictJson(Buffer.from(line), {
      bytesMax: LINE_BYTES_MAX,
      depthMax: 16,
      code: 'CONFIG_INVALID',
      label: where,
    });
    const result = caseSchema.safeParse(json);
    if (result.success) return result.data;
    throw new FreeholdError('CONFIG_INVALID', `${where}: ${describeIssues(result.error)}`);
  });
}

export interface ExactMatchScore {
  readonly right: number;
  readonly total: number;
}

/**
 * How many cases a model answers word for word, blanks at both ends aside; greedy, so that it is the same each time.
 * @throws what the model throws
 */
export async function scoreExactMatches(
  model: LoadedModel,
  suite: ExactMatchSuite,
  signal: AbortSignal,
): Promise<ExactMatchScore> {
  let right = 0;
  for (const { messages, expected } of suite.cases) {
    signal.throwIfAborted();
    const request = {
      prompt: { kind: 'chat', messages },
      sampling: { temperature: 0 },
      // Of a small context the other half is the question's.
      maxTokens: Math.min(ANSWER_TOKENS_MAX, Math.floor(model.info.contextTokens / 2)),
    } as const;
    let answer = '';
    for await (const event of model.generate(request, signal)) {
      if (event.kind === 'text') answer += event.text;
    }
    if (answer.trim() === expected.trim()) right++;
  }
  return { right, total: suite.cases.length };
}

/** What a check says of a candidate; for people and for `--json`. */
export interface Acceptance {
  readonly accepted: boolean;
  readonly reason: string;
  readonly detail: Readonly<Record<string, number>>;
}

/** A candidate must answer no fewer cases than what is in use now, and reach the suite's own mark if it has one. */
export function judgeExactMatches(
  candidate: ExactMatchScore,
  current: ExactMatchScore | undefined,
  minScore: number | undefined,
): Acceptance {
  const detail = {
    cases: candidate.total,
    candidate: candidate.right,
    ...(current === undefined ? {} : { current: current.right }),
    ...(minScore === undefined ? {} : { minScore }),
  };
  const shown = `${candidate.right} of ${candidate.total} cases right`;
  if (minScore !== undefined && candidate.right < minScore * candidate.total) {
    return { accepted: false, reason: `${shown}, at least ${minScore * 100} % are demanded`, detail };
  }
  if (current !== undefined && candidate.right < current.right) {
    return { accepted: false, reason: `${shown}, the version in use has ${current.right}`, detail };
  }
  return { accepted: true, reason: shown, detail };
}
