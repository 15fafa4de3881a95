import { Digest } from '../../core/base/digest.ts';
import type { LoadedModel } from '../../core/base/engine-port.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import type { Answer } from '../../core/wire/answer.ts';
import { parseChatRequest } from '../../core/wire/openai-chat-request.ts';
import { ChatChunkEncoder, type ChunkEncoder, TextChunkEncoder } from '../../core/wire/openai-chunks.ts';
import { parseCompletionRequest } from '../../core/wire/openai-completion-request.ts';
import {
  encodeEmbeddings,
  parseEmbeddingRequest,
  requireDimensions,
} from '../../core/wire/openai-embedding.ts';
import { encodeOpenAiErrorBody } from '../../core/wire/openai-errors.ts';
import type { AnswerRequest } from '../../core/wire/openai-generation.ts';
import { parseModelId } from '../../core/wire/openai-model-name.ts';
import { namingInput } from '../../core/wire/openai-params.ts';
import { requireTokensKnown } from '../../core/wire/openai-prompts.ts';
import {
  type AnswerEnvelope,
  encodeChatCompletion,
  encodeModel,
  encodeModelList,
  encodeTextCompletion,
} from '../../core/wire/openai-response.ts';
import type { App, AppContext, AppOptions } from './app-environment.ts';
import { encodeEvent, openEventStream } from './event-stream.ts';
import { describeFailure, refuseOtherMethods } from './failure.ts';
import { collectAnswers, encodeFrames, generateChoices } from './generation.ts';
import { readJsonBody } from './json-body.ts';

/** `/v1/*` as OpenAI's clients call it; `docs/API.md` describes it. */
export function registerOpenAiRoutes(app: App, options: AppOptions): void {
  app.get('/v1/models', async (context) => context.json(encodeModelList(await options.host.list())));
  app.get('/v1/models/:id{.+}', (context) => answerModel(context, options));
  app.post('/v1/chat/completions', (context) => answerText(context, options, CHAT));
  app.post('/v1/completions', (context) => answerText(context, options, COMPLETION));
  app.post('/v1/embeddings', (context) => answerEmbeddings(context, options));
  refuseOtherMethods(app, '/v1/models', 'GET');
  refuseOtherMethods(app, '/v1/models/:id{.+}', 'GET');
  refuseOtherMethods(app, '/v1/chat/completions', 'POST');
  refuseOtherMethods(app, '/v1/completions', 'POST');
  refuseOtherMethods(app, '/v1/embeddings', 'POST');
}

async function answerModel(context: AppContext, { host }: AppOptions): Promise<Response> {
  const id = parseModelId(context.req.param('id') ?? '');
  const summary = (await host.list()).find((model) => model.id === id);
  if (summary === undefined) throw new FreeholdError('MODEL_NOT_FOUND', `no model has the name "${id}"`);
  return context.json(encodeModel(summary));
}

/** What tells the paths apart that answer with text. */
interface TextPath {
  readonly idPrefix: 'chatcmpl' | 'cmpl';
  readonly needsTemplate: boolean;
  readonly parse: (body: unknown) => AnswerRequest;
  readonly encodeWhole: (
    envelope: AnswerEnvelope,
    request: AnswerRequest,
    answers: readonly Answer[],
  ) => object;
  readonly createEncoder: (envelope: AnswerEnvelope, request: AnswerRequest) => ChunkEncoder;
}

const CHAT: TextPath = {
  idPrefix: 'chatcmpl',
  needsTemplate: true,
  parse: parseChatRequest,
  encodeWhole: encodeChatCompletion,
  createEncoder: (envelope, request) => new ChatChunkEncoder(envelope, request),
};

const COMPLETION: TextPath = {
  idPrefix: 'cmpl',
  needsTemplate: false,
  parse: parseCompletionRequest,
  encodeWhole: encodeTextCompletion,
  createEncoder: (envelope, request) => new TextChunkEncoder(envelope, request),
};

async function answerText(context: AppContext, options: AppOptions, path: TextPath): Promise<Response> {
  const request = path.parse(await readJsonBody(context.req.raw));
  const work = beginWork(context);
  const model = await useGenerator(options, request.model, work.signal);
  if (path.needsTemplate && !model.info.hasChatTemplate) {
    throw new FreeholdError('NOT_SUPPORTED', `${request.model} has no chat template`, {
      hint: 'use /v1/completions',
      detail: { param: 'model' },
    });
  }
  requireKnownTokens(request, model);
  const envelope = createEnvelope(path.idPrefix, request.model, model, options);
  const events = generateChoices(model, request, work.signal);
  if (request.stream) {
    const frames = encodeFrames(events, path.createEncoder(envelope, request), request);
    return streamFrames(context, options, work, frames);
  }
  return context.json(path.encodeWhole(envelope, request, await collectAnswers(events, request)));
}

async function answerEmbeddings(context: AppContext, options: AppOptions): Promise<Response> {
  const request = parseEmbeddingRequest(await readJsonBody(context.req.raw));
  const { signal } = beginWork(context);
  const model = await options.host.use(request.model, signal);
  requireDimensions(request, model.info.embeddingLength);
  for (const input of request.embed.inputs) {
    if (typeof input !== 'string') requireTokensKnown(input, model.info.vocabularyTokens, 'input');
  }
  try {
    return context.json(encodeEmbeddings(request, await model.embed(request.embed, signal)));
  } catch (thrown) {
    throw namingInput(thrown, 'input');
  }
}

/** One request's work: ends when the client hangs up, when the server stops, or when it is abandoned. */
interface Work {
  readonly signal: AbortSignal;
  abandon(reason: FreeholdError): void;
}

function beginWork(context: AppContext): Work {
  const controller = new AbortController();
  const signals = [context.req.raw.signal, controller.signal];
  const stopping = context.env?.stopping;
  if (stopping !== undefined) signals.push(stopping);
  return { signal: AbortSignal.any(signals), abandon: (reason) => controller.abort(reason) };
}

async function useGenerator({ host }: AppOptions, id: string, signal: AbortSignal): Promise<LoadedModel> {
  const model = await host.use(id, signal);
  if (model.info.purpose === 'generate') return model;
  throw new FreeholdError('NOT_SUPPORTED', `${id} makes embeddings and cannot write text`, {
    hint: 'use /v1/embeddings, or another model',
    detail: { param: 'model' },
  });
}

/** Native code indexes its tables with these numbers: check them on this side as well. */
function requireKnownTokens({ generations, choicesPerPrompt }: AnswerRequest, { info }: LoadedModel): void {
  const biased = Object.keys(generations[0]?.sampling?.logitBias ?? {}).map(Number);
  requireTokensKnown(biased, info.vocabularyTokens, 'logit_bias');
  for (const [index, { prompt }] of generations.entries()) {
    if (prompt.kind !== 'tokens' || index % choicesPerPrompt !== 0) continue;
    requireTokensKnown(prompt.tokens, info.vocabularyTokens, 'prompt');
  }
}

function createEnvelope(
  prefix: TextPath['idPrefix'],
  id: string,
  model: LoadedModel,
  { clock, random, version }: AppOptions,
): AnswerEnvelope {
  const { architecture, parameterCount, contextTokens, vocabularyTokens } = model.info;
  const facts = [version, id, architecture, parameterCount, contextTokens, vocabularyTokens];
  const randomHex = () => Buffer.from(random(16)).toString('hex');
  return {
    id: `${prefix}-${randomHex()}`,
    createdSeconds: Math.floor(clock.nowMs() / 1000),
    model: id,
    fingerprint: `fp_${Digest.hex(Digest.of(JSON.stringify(facts))).slice(0, 10)}`,
    createCallId: () => `call_${randomHex()}`,
  };
}

async function streamFrames(
  context: AppContext,
  { clock, log }: AppOptions,
  work: Work,
  frames: AsyncIterable<string>,
): Promise<Response> {
  const stream = await openEventStream({
    frames,
    clock,
    abandon(reason) {
      work.abandon(reason);
      context.env?.outgoing?.destroy();
    },
    encodeFailure(thrown) {
      const error = describeFailure(context, thrown, log);
      const requestId = context.get('requestId');
      log({ level: 'warning', event: 'stream-failed', fields: { requestId, code: error.code } });
      return encodeEvent(encodeOpenAiErrorBody(error));
    },
  });
  context.header('content-type', 'text/event-stream; charset=utf-8');
  context.header('cache-control', 'no-cache');
  // nginx would collect events otherwise.
  context.header('x-accel-buffering', 'no');
  return context.body(stream);
}
