import { existsSync } from 'node:fs';
import path from 'node:path';
import { openCatalog } from '../src/io/fetch/catalog.ts';
import { readMirrors } from '../src/io/fetch/mirrors.ts';
import {
  type RealModelName,
  realModel,
  realModelFolder,
  TEST_MIRRORS_PATH,
} from '../tests/fixtures/real-models.ts';

export const STARTER: RealModelName = 'smollm2-135m-instruct';

export interface BenchModel {
  readonly name: RealModelName;
  readonly title: string;
  readonly file: string;
}

/** Fetched when it is not there: 98 MB. */
export async function starterModel(): Promise<BenchModel> {
  return { name: STARTER, title: 'SmolLM2-135M Q4_1', file: await realModel(STARTER) };
}

/** The starter, and larger ones that earlier test runs have left in the cache: a benchmark fetches no gigabytes. */
export async function modelsAtHand(): Promise<readonly BenchModel[]> {
  const coder = 'qwen2.5-coder-0.5b-instruct';
  const { digest } = openCatalog(await readMirrors(TEST_MIRRORS_PATH, true)).find(coder);
  const isCached = existsSync(path.join(realModelFolder(), digest.slice('sha256:'.length)));
  const larger = isCached
    ? [{ name: coder, title: 'Qwen2.5-Coder-0.5B Q4_K_M', file: await realModel(coder) } as const]
    : [];
  return [await starterModel(), ...larger];
}
