import { open, stat } from 'node:fs/promises';
import path from 'node:path';
import type { Digest } from '../../core/base/digest.ts';
import type { AdapterFile, GenerateRequest, LoadedModel, VerifiedFile } from '../../core/base/engine-port.ts';
import { FreeholdError } from '../../core/base/errors.ts';
import { quoted } from '../../core/base/ids.ts';
import { hashOpenFile } from '../../io/files/file-hash.ts';
import { fileError, requirePlainFile } from './local-file.ts';

/** A LoRA adapter that is served over an installed model: a file of the user's own, not of a package. */
export interface AdapterOption {
  /** The model, by any name that it goes by: `triage`, `acme/triage@1.4.0#q4_0`. */
  readonly base: string;
  /** What comes behind the `+` in the name that clients send. */
  readonly name: string;
  /** GGUF file. */
  readonly file: string;
}

/** As a part of a package name, so that `base+name` can stand wherever a model is named. */
const ADAPTER_NAME = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const ADAPTER_NAME_CHARACTERS_MAX = 48;

/**
 * Reads `triage+ward7=ward7.gguf`.
 * @throws USAGE, NAME_INVALID
 */
export function parseAdapterOption(text: string): AdapterOption {
  const equals = text.indexOf('=');
  const plus = text.slice(0, Math.max(0, equals)).lastIndexOf('+');
  if (plus <= 0 || equals === text.length - 1) {
    throw new FreeholdError('USAGE', `not an adapter: ${quoted(text)}`, {
      hint: '--adapter MODEL+NAME=FILE.gguf, for example triage+ward7=ward7.gguf',
    });
  }
  const option = {
    base: text.slice(0, plus),
    name: text.slice(plus + 1, equals),
    file: text.slice(equals + 1),
  };
  requireAdapterName(option.name);
  return option;
}

/** @throws NAME_INVALID */
export function requireAdapterName(name: string): void {
  if (name.length <= ADAPTER_NAME_CHARACTERS_MAX && ADAPTER_NAME.test(name)) return;
  throw new FreeholdError('NAME_INVALID', `not a name for an adapter: ${quoted(name)}`, {
    hint: 'lower case letters and digits, joined by ".", "_" or "-": ward7',
  });
}

/** A user's adapter, as an engine takes it. */
export interface LocalAdapter extends AdapterFile {
  readonly sizeBytes: number;
}

/**
 * Looks at an adapter's file, without reading it. While this object lives, the file must stay what it was when it was
 * first opened: one server does not answer from two adapters under one name.
 * @throws NOT_FOUND, PERMISSION_DENIED, NAME_INVALID
 */
export async function openLocalAdapter({ name, file }: AdapterOption): Promise<LocalAdapter> {
  requireAdapterName(name);
  const absolute = path.resolve(file);
  await requirePlainFile(absolute);
  const { size } = await stat(absolute);
  let first: Digest | undefined;
  return {
    name,
    sizeBytes: size,
    file: {
      name: path.basename(absolute),
      open: async (signal) => {
        const opened = await openHashed(absolute, signal);
        first ??= opened.digest;
        if (opened.digest === first) return opened;
        await opened.close();
        throw new FreeholdError('DIGEST_MISMATCH', `${file} was changed since it was first loaded`, {
          hint: 'start Freehold again to use the new adapter',
          detail: { file, expected: first, actual: opened.digest },
        });
      },
    },
  };
}

/** Opened once; what is hashed is what the descriptor gives, whoever exchanges the file meanwhile. */
async function openHashed(file: string, signal: AbortSignal | undefined): Promise<VerifiedFile> {
  const handle = await open(file, 'r').catch((error: unknown) => {
    throw fileError(error, file);
  });
  try {
    const before = await handle.stat({ bigint: true });
    const { digest, sizeBytes } = await hashOpenFile(handle, { signal });
    return {
      fd: handle.fd,
      digest,
      sizeBytes,
      requireUnchanged: async () => {
        const now = await handle.stat({ bigint: true });
        if (now.size === before.size && now.mtimeNs === before.mtimeNs && now.ctimeNs === before.ctimeNs)
          return;
        throw new FreeholdError('DIGEST_MISMATCH', `${file} was changed while it was being loaded`, {
          hint: 'try again',
          detail: { file },
        });
      },
      // The handle stays reachable through this closure: collected, it would close the descriptor.
      close: () => handle.close(),
    };
  } catch (error) {
    await handle.close();
    throw fileError(error, file);
  }
}

/** The model as it answers with one of its adapters. */
export function withAdapter(model: LoadedModel, adapter: string): LoadedModel {
  return {
    get info() {
      return model.info;
    },
    generate: (request: GenerateRequest, signal?: AbortSignal) =>
      model.generate({ ...request, adapter }, signal),
    embed: async () => {
      throw new FreeholdError('NOT_SUPPORTED', `the adapter ${adapter} changes answers, not embeddings`);
    },
    close: () => model.close(),
  };
}

/** What a generation is asked of: a model, and one of its adapters. */
export interface ModelChoice {
  readonly base: string;
  readonly adapter?: string;
}

/** `triage+cardiology` is the adapter `cardiology` over `triage`: names of packages, versions and variants have no `+`. */
export function splitAdapter(id: string): ModelChoice {
  const plus = id.indexOf('+');
  return plus <= 0 ? { base: id } : { base: id.slice(0, plus), adapter: id.slice(plus + 1) };
}
