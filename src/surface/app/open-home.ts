import type {
  ChatMessage,
  EmbedResult,
  GenerateRequest,
  LoadedModel,
  ModelHost,
  ModelInfo,
} from '../../core/base/engine-port.ts';
import { type Freehold, type FreeholdOptions, openFreehold } from './freehold.ts';
import { installReference } from './install-reference.ts';
import { fullReference } from './installed-packages.ts';
import { createModelHost, type HostOptions, type LocalModelHost } from './model-host.ts';
import { listInstalled, type PackageRow } from './package-list.ts';
import { type VerificationReport, verifyReference } from './verify-package.ts';

/** Everything of a generation request but the prompt. */
export type ChatOptions = Omit<GenerateRequest, 'prompt'> & { readonly signal?: AbortSignal };

/** A part of an answer: whole characters. */
export interface ChatPart {
  readonly text: string;
}

/** A verified, loaded model for programs. */
export interface OwnedModel {
  readonly info: ModelInfo;
  /** Streams the answer to a conversation. @throws CONTEXT_EXCEEDED, TEMPLATE_FAILED, ENGINE_LOST, CANCELLED */
  chat(messages: readonly ChatMessage[], options?: ChatOptions): AsyncIterable<ChatPart>;
  /** One L2-normalised vector per text. @throws NOT_SUPPORTED when the model does not embed */
  embed(texts: readonly string[], signal?: AbortSignal): Promise<EmbedResult['vectors']>;
}

/** A home for programs: the same store, trust policy and engine as the command line's. */
export interface OwnedHome {
  readonly path: string;
  /** The models behind the OpenAI-compatible door: hand it to `startServer`. */
  readonly host: ModelHost;
  /**
   * The model, loaded. It stays usable when it was unloaded meanwhile: the next request loads it again.
   * @throws MODEL_NOT_FOUND, SIGNER_UNTRUSTED, DIGEST_MISMATCH, ENGINE_FAILED, OUT_OF_MEMORY, BUSY, …
   */
  run(reference: string): Promise<OwnedModel>;
  list(): Promise<readonly PackageRow[]>;
  /** `catalog:NAME` or `file:FOLDER`. @returns the full reference of what is installed */
  install(
    reference: string,
    options?: { readonly acceptLicense?: boolean; readonly signal?: AbortSignal },
  ): Promise<string>;
  /** Every byte of every file. @throws SIGNATURE_…, DIGEST_MISMATCH naming the file */
  verify(reference: string, signal?: AbortSignal): Promise<readonly VerificationReport[]>;
  /** Ends all models. */
  close(): Promise<void>;
}

export type OpenHomeOptions = Partial<FreeholdOptions> & HostOptions;

/**
 * Opens the home folder (`options.home`, else `$FREEHOLD_HOME`, else `~/.freehold`), and makes it at first use.
 * Begins to load pinned models; `host.requireReady()` tells when they are.
 * @throws PERMISSION_DENIED, STORE_CORRUPT; MODEL_NOT_FOUND for a pinned model or the base of an adapter, NOT_FOUND for an
 *   adapter's file
 */
export async function openHome(options: OpenHomeOptions = {}): Promise<OwnedHome> {
  const freehold = await openFreehold({ env: process.env, ...options });
  const host = createModelHost(freehold, options);
  await host.start();
  return ownedHome(freehold, host);
}

function ownedHome(freehold: Freehold, host: LocalModelHost): OwnedHome {
  return {
    path: freehold.home.path,
    host,
    run: async (reference) => ownedModel(await host.use(reference)),
    list: () => listInstalled(freehold),
    async install(reference, { acceptLicense = false, signal = new AbortController().signal } = {}) {
      const options = { isLicenseAccepted: acceptLicense, signal };
      return fullReference(await installReference(freehold, reference, options));
    },
    verify: (reference, signal = new AbortController().signal) =>
      verifyReference(freehold, reference, signal),
    close: () => host.close(),
  };
}

function ownedModel(model: LoadedModel): OwnedModel {
  return {
    info: model.info,
    async *chat(messages, { signal, ...request } = {}) {
      const events = model.generate({ ...request, prompt: { kind: 'chat', messages } }, signal);
      for await (const event of events)
        if (event.kind === 'text' && event.text !== '') yield { text: event.text };
    },
    embed: async (texts, signal) => (await model.embed({ inputs: texts }, signal)).vectors,
  };
}
