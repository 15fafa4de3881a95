import { execFile } from 'node:child_process';
import { statfs } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { toFreeholdError } from '../../core/base/errors.ts';
import { locateLibrary } from '../../io/engine/llama/library-folder.ts';
import { LLAMA_VERSION } from '../../io/engine/llama/llama-layouts.ts';
import { describeIsolation, probeIsolation } from '../../io/engine/sandbox/launch.ts';
import { openThreadChoices } from '../../io/home/thread-choices.ts';
import type { Freehold } from './freehold.ts';
import { installedPackages } from './installed-packages.ts';
import { readMachineMemory } from './machine-memory.ts';
import { sizeText } from './memory-refusal.ts';
import { defaultBudget, MEMORY_SHARE } from './model-memory.ts';
import { FREEHOLD_VERSION } from './version.ts';

export interface Finding {
  readonly subject: string;
  /** `bad` keeps Freehold from its work; `note` is worth knowing. */
  readonly state: 'ok' | 'note' | 'bad';
  readonly text: string;
  readonly hint?: string;
}

const NODE_MAJOR_MIN = 24;
/** The starter model, its package and room to work. */
const DISK_BYTES_MIN = 1 << 30;
const PIP_TIMEOUT_MS = 10_000;
/** More are no use on a screen. */
const THREAD_CHOICES_SHOWN_MAX = 5;

/** What this machine offers and what is missing. Touches no network. */
export async function examineMachine(freehold: Freehold): Promise<Finding[]> {
  return [
    runtime(),
    machine(),
    await guarded('memory', memory),
    await guarded('threads', () => threads(freehold)),
    await guarded('library', library),
    await guarded('sandbox', sandbox),
    await guarded('home', () => home(freehold)),
    await guarded('store', () => store(freehold)),
    await guarded('trust', () => trust(freehold)),
    await guarded('disk', () => disk(freehold)),
    await guarded('pip', pip),
  ];
}

async function guarded(subject: string, examine: () => Promise<Finding> | Finding): Promise<Finding> {
  try {
    return await examine();
  } catch (thrown) {
    const error = toFreeholdError(thrown);
    return { subject, state: 'bad', text: `${error.message} [${error.code}]`, hint: error.hint };
  }
}

function runtime(): Finding {
  const isFine = Number(process.versions.node.split('.')[0]) >= NODE_MAJOR_MIN;
  return {
    subject: 'runtime',
    state: isFine ? 'ok' : 'bad',
    text: `Freehold ${FREEHOLD_VERSION}, Node ${process.versions.node}`,
  };
}

function machine(): Finding {
  const [cpu] = os.cpus();
  const gibibytes = (os.totalmem() / 2 ** 30).toFixed(1);
  return {
    subject: 'machine',
    state: 'ok',
    text: `${os.platform()} ${os.arch()}, ${os.availableParallelism()} × ${cpu?.model.trim() ?? 'unknown CPU'}, ${gibibytes} GiB memory`,
  };
}

/** The machine's, or what a container leaves of it. */
async function memory(): Promise<Finding> {
  const reading = await readMachineMemory();
  const { limitBytes, availableBytes } = reading;
  const budgetBytes = defaultBudget(reading);
  const isShort = availableBytes < budgetBytes / 2;
  return {
    subject: 'memory',
    state: isShort ? 'note' : 'ok',
    text: `${sizeText(budgetBytes)} for models (${100 * MEMORY_SHARE} % of ${sizeText(limitBytes)}), ${sizeText(availableBytes)} available now`,
    ...(isShort ? { hint: 'other programs use much of it; a model that does not fit is refused' } : {}),
  };
}

/** Measured when a model was first loaded. */
async function threads({ home: opened }: Freehold): Promise<Finding> {
  const choices = await openThreadChoices(path.join(opened.path, 'cache')).list();
  const shown = choices.slice(-THREAD_CHOICES_SHOWN_MAX).map(({ key, decode, batch, tokensPerCpuSecond }) => {
    const rate = `${tokensPerCpuSecond.toFixed(0)} tokens per CPU second`;
    return `${key}: ${decode} to write, ${batch} to read (${rate})`;
  });
  const more = choices.length > shown.length ? [`and ${choices.length - shown.length} more`] : [];
  return {
    subject: 'threads',
    state: 'ok',
    text:
      choices.length === 0
        ? 'nothing measured yet: the first load of a model does'
        : [...shown, ...more].join('; '),
  };
}

function library(): Finding {
  const { llama } = locateLibrary();
  return { subject: 'library', state: 'ok', text: `llama.cpp ${LLAMA_VERSION}, ${llama}` };
}

async function sandbox(): Promise<Finding> {
  const isolation = await probeIsolation();
  const isWhole = isolation.kind === 'sandbox' && isolation.lost.length === 0;
  return {
    subject: 'sandbox',
    state: isWhole ? 'ok' : 'note',
    text: describeIsolation(isolation),
    ...(isWhole ? {} : { hint: 'models run all the same; --require-sandbox refuses to run them so' }),
  };
}

function home({ home: { path } }: Freehold): Finding {
  return { subject: 'home', state: 'ok', text: path };
}

async function store({ store: opened }: Freehold): Promise<Finding> {
  const count = installedPackages(await opened.entries()).length;
  return {
    subject: 'store',
    state: 'ok',
    text: `${count} ${count === 1 ? 'package' : 'packages'} in ${opened.folder}`,
  };
}

async function trust({ home: { trust: policy } }: Freehold): Promise<Finding> {
  const { rules } = await policy.load();
  return {
    subject: 'trust',
    state: 'ok',
    text: `${rules.length} ${rules.length === 1 ? 'rule' : 'rules'} in ${policy.path}`,
  };
}

async function disk({ home: { path } }: Freehold): Promise<Finding> {
  const { bavail, bsize } = await statfs(path);
  const freeBytes = bavail * bsize;
  const isFine = freeBytes >= DISK_BYTES_MIN;
  return {
    subject: 'disk',
    state: isFine ? 'ok' : 'bad',
    text: `${(freeBytes / 2 ** 30).toFixed(1)} GiB free below ${path}`,
    ...(isFine ? {} : { hint: 'freehold gc frees what nothing uses' }),
  };
}

/** Only sources of kind `wheels` need it, so its absence is no fault. */
async function pip(): Promise<Finding> {
  try {
    const { stdout } = await promisify(execFile)('python3', ['-m', 'pip', '--version'], {
      timeout: PIP_TIMEOUT_MS,
    });
    return { subject: 'pip', state: 'ok', text: stdout.trim().replace(/ from .*/, '') };
  } catch {
    return {
      subject: 'pip',
      state: 'note',
      text: 'not found',
      hint: 'only needed for catalog sources that are Python wheels: apt-get install python3-pip',
    };
  }
}
