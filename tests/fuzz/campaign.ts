import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { encodePlan, type GgufPlan } from './gguf-plan.ts';
import { LlamaOracle, type LlamaVerdict } from './llama-oracle.ts';
import { judgeAdapter, judgeModel, type OwnVerdict } from './own-verdict.ts';
import { PythonOracle, type PythonVerdict } from './python-oracle.ts';

/** A model; or an adapter, and the model that it is offered for. */
export interface Case {
  readonly plan: GgufPlan;
  readonly base?: GgufPlan;
}

/** A file that two readers judge differently, or that ended one of them. */
export interface Difference {
  readonly against: 'gguf' | 'llama.cpp';
  /** Who takes it, or what happened to the other one. */
  readonly kind: 'only we accept' | 'only they accept' | 'crashes' | 'hangs';
  readonly ours: string;
  readonly theirs: string;
  readonly shown: Case;
}

export interface CampaignResult {
  readonly files: number;
  /** "ours / theirs" → how many, per other reader. */
  readonly matrix: ReadonlyMap<string, number>;
  readonly differences: readonly Difference[];
  /** Something else than a refusal was thrown by us. */
  readonly faults: readonly string[];
  readonly slowestMs: number;
  /** Files that we accept, and that made the process of llama.cpp grow most. */
  readonly largestGrowthKiB: number;
  readonly largest: Case | undefined;
}

export interface CampaignOptions {
  readonly cases: Iterable<Case>;
  readonly againstPython: boolean;
  readonly againstLlama: boolean;
  /** Stops when this has passed. */
  readonly untilMs?: number;
  readonly onDifference?: (difference: Difference) => void;
}

/** Shows every file to all readers. */
export async function runCampaign(options: CampaignOptions): Promise<CampaignResult> {
  const folder = mkdtempSync(path.join(tmpdir(), 'freehold-fuzz-'));
  const llama = options.againstLlama ? new LlamaOracle(folder) : undefined;
  const python = options.againstPython ? new PythonOracle() : undefined;
  const file = path.join(folder, 'file.gguf');
  const baseFile = path.join(folder, 'base.gguf');
  const tally = new Tally(options.onDifference);
  const endMs = performance.now() + (options.untilMs ?? Number.POSITIVE_INFINITY);
  try {
    for (const shown of options.cases) {
      if (performance.now() > endMs) break;
      const bytes = encodePlan(shown.plan);
      const base = shown.base === undefined ? undefined : encodePlan(shown.base);
      const own = await (base === undefined ? judgeModel(bytes) : judgeAdapter(bytes, base));
      tally.own(own, shown);
      if (python !== undefined || llama !== undefined) writeFileSync(file, bytes);
      if (base !== undefined) writeFileSync(baseFile, base);
      if (python !== undefined) tally.python(own, await python.judge(file), shown);
      const order = base === undefined ? { file } : { file: baseFile, adapter: file };
      if (llama !== undefined) tally.llama(own, await llama.judge(order), shown);
    }
  } finally {
    python?.close();
    await llama?.close();
    rmSync(folder, { recursive: true, force: true });
  }
  return tally.result();
}

class Tally {
  readonly #matrix = new Map<string, number>();
  readonly #differences: Difference[] = [];
  readonly #faults: string[] = [];
  readonly #onDifference: ((difference: Difference) => void) | undefined;
  #files = 0;
  #slowestMs = 0;
  #largestGrowthKiB = 0;
  #largest: Case | undefined;

  constructor(onDifference: ((difference: Difference) => void) | undefined) {
    this.#onDifference = onDifference;
  }

  own(own: OwnVerdict, shown: Case): void {
    this.#files++;
    this.#slowestMs = Math.max(this.#slowestMs, own.durationMs);
    if (own.fault !== undefined) this.#faults.push(`${shown.plan.origin}: ${own.fault}`);
  }

  /** It reads a container and knows nothing of models: compared with our reader, without the gate. */
  python(own: OwnVerdict, theirs: PythonVerdict, shown: Case): void {
    this.#compare('gguf', own.acceptedBy !== 'nobody', own.reason, theirs, shown);
  }

  llama(own: OwnVerdict, theirs: LlamaVerdict, shown: Case): void {
    const accepts = own.acceptedBy === 'gate';
    this.#compare('llama.cpp', accepts, own.reason, theirs, shown);
    if (accepts && theirs.grewKiB > this.#largestGrowthKiB) {
      this.#largestGrowthKiB = theirs.grewKiB;
      this.#largest = shown;
    }
  }

  result(): CampaignResult {
    return {
      files: this.#files,
      matrix: this.#matrix,
      differences: this.#differences,
      faults: this.#faults,
      slowestMs: this.#slowestMs,
      largestGrowthKiB: this.#largestGrowthKiB,
      largest: this.#largest,
    };
  }

  #compare(
    against: Difference['against'],
    weAccept: boolean,
    ours: string,
    theirs: PythonVerdict | LlamaVerdict,
    shown: Case,
  ): void {
    const cell = `${against}: we ${weAccept ? 'accept' : 'refuse'}, it ${theirs.verdict}`;
    this.#matrix.set(cell, (this.#matrix.get(cell) ?? 0) + 1);
    const kind = kindOf(weAccept, theirs.verdict);
    if (kind === undefined) return;
    const difference = { against, kind, ours, theirs: theirs.reason, shown };
    this.#differences.push(difference);
    this.#onDifference?.(difference);
  }
}

/** What ends or hangs on a file that we refuse is no concern of ours. */
function kindOf(weAccept: boolean, theirs: LlamaVerdict['verdict']): Difference['kind'] | undefined {
  if (!weAccept) return theirs === 'accepts' ? 'only they accept' : undefined;
  if (theirs === 'accepts') return undefined;
  return theirs === 'refuses' ? 'only we accept' : theirs;
}
