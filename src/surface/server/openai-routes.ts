import { Digest } from '../../core/base/digest.ts';
import type { GenerateRequest, LoadedModel } from '../../core/base/engine-port.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { parseChatRequest } from '../../core/wire/openai-chat-request.ts';
import { parseCompletionRequest } from '../../core/wire/openai-completion-request.ts';
import {
  encodeEmbeddings,
  parseEmbeddingRequest,
  requireDimensions,
} from '../../core/wire/openai-embedding.ts';
import { encodeOpenAiErrorBody } from '../../core/wire/openai-errors.ts';
import { parseModelId } from '../../core/wire/openai-generation.ts';
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
import { collectAnswer } from './generation.ts';
import { readJsonBody } from './json-body.ts';
import { encodeChatFrames, encodeTextFrames } from './openai-frames.ts';

/** `/v1/*` as OpenAI's clients call it; `docs/API.md` describes it. */
export function registerOpenAiRoutes(app: App, options: AppOptions): void {
  app.get('/v1/models', async (context) => context.json(encodeModelList(await options.host.list())));
  app.get('/v1/models/:id{.+}', (context) => answerModel(context, options));
  app.post('/v1/chat/completions', (context) => answerChat(context, options));
  app.post('/v1/completions', (context) => answerCompletion(context, options));
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

async function answerChat(context: AppContext, options: AppOptions): Promise<Response> {
  context.set('promptParam', 'messages');
  const request = parseChatRequest(await readJsonBody(context.req.raw));
  const work = beginWork(context);
  const model = await useGenerator(options, request.model, work.signal);
  if (!model.info.hasChatTemplate) {
    throw new FreeholdError('NOT_SUPPORTED', `${request.model} has no chat template`, {
      hint: 'use /v1/completions',
      detail: { param: 'model' },
    });
  }
  requireKnownTokens(request.generate, model);
  const envelope = createEnvelope('chatcmpl', request.model, model, options);
  const events = model.generate(request.generate, work.signal);
  if (request.stream) {
    return streamFrames(context, options, work, encodeChatFrames(envelope, events, request));
  }
  const answer = await collectAnswer(events, request.generate.logprobs !== undefined);
  return context.json(encodeChatCompletion(envelope, answer));
}

async function answerCompletion(context: AppContext, options: AppOptions): Promise<Response> {
  context.set('promptParam', 'prompt');
  const request = parseCompletionRequest(await readJsonBody(context.req.raw));
  const work = beginWork(context);
  const model = await useGenerator(options, request.model, work.signal);
  const generations = request.prompts.map((prompt): GenerateRequest => ({ ...request.generate, prompt }));
  for (const generation of generations) requireKnownTokens(generation, model);
  const envelope = createEnvelope('cmpl', request.model, model, options);
  if (request.stream) {
    const frames = encodeTextFrames(
      envelope,
      generations,
      (generation) => model.generate(generation, work.signal),
      request,
    );
    return streamFrames(context, options, work, frames);
  }
  const answers = [];
  for (const generation of generations) {
    const events = model.generate(generation, work.signal);
    answers.push(await collectAnswer(events, generation.logprobs !== undefined));
  }
  return context.json(encodeTextCompletion(envelope, answers));
}

async function answerEmbeddings(context: AppContext, options: AppOptions): Promise<Response> {
  context.set('promptParam', 'input');
  const request = parseEmbeddingRequest(await readJsonBody(context.req.raw));
  const { signal } = beginWork(context);
  const model = await options.host.use(request.model, signal);
  requireDimensions(request, model.info.embeddingLength);
  for (const input of request.embed.inputs) {
    if (typeof input !== 'string') requireTokensKnown(input, model.info.vocabularyTokens, 'input');
  }
  return context.json(encodeEmbeddings(request, await model.embed(request.embed, signal)));
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
function requireKnownTokens(request: GenerateRequest, { info }: LoadedModel): void {
  const biased = Object.keys(request.sampling?.logitBias ?? {}).map(Number);
  requireTokensKnown(biased, info.vocabularyTokens, 'logit_bias');
  if (request.prompt.kind === 'tokens') {
    requireTokensKnown(request.prompt.tokens, info.vocabularyTokens, 'prompt');
  }
}

function createEnvelope(
  prefix: 'chatcmpl' | 'cmpl',
  id: string,
  model: LoadedModel,
  { clock, random, version }: AppOptions,
): AnswerEnvelope {
  const { architecture, parameterCount, contextTokens, vocabularyTokens } = model.info;
  const facts = [version, id, architecture, parameterCount, contextTokens, vocabularyTokens];
  return {
    id: `${prefix}-${Buffer.from(random(16)).toString('hex')}`,
    createdSeconds: Math.floor(clock.nowMs() / 1000),
    model: id,
    fingerprint: `fp_${Digest.hex(Digest.of(JSON.stringify(facts))).slice(0, 10)}`,
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
      return encodeEvent(encodeOpenAiErrorBody(error, context.get('promptParam')));
    },
  });
  context.header('content-type', 'text/event-stream; charset=utf-8');
  context.header('cache-control', 'no-cache');
  // nginx would collect events otherwise.
  context.header('x-accel-buffering', 'no');
  return context.body(stream);
}
