import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { MachineFacts } from '../../core/format/variant-choice.ts';
import { readMachineMemory } from './machine-memory.ts';
import { defaultBudget } from './model-memory.ts';

/** Device files that drivers of NVIDIA and of AMD and Intel make. */
const GPU_DEVICES = ['/dev/nvidia0', '/dev/kfd', '/dev/dri/renderD128'];

/** What decides which variant fits this machine. */
export async function readMachineFacts(): Promise<MachineFacts> {
  const cpuInfo = await readFile('/proc/cpuinfo', 'utf8').catch(() => '');
  // x86 says "flags", ARM "Features"; of the first processor, since threads may run on any.
  const features = /^(?:flags|Features)\s*:\s*(.*)$/m.exec(cpuInfo)?.[1];
  return {
    memoryBytesMax: defaultBudget(await readMachineMemory()),
    ...(features === undefined ? {} : { cpuFeatures: new Set(features.trim().split(/\s+/)) }),
    hasGpu: GPU_DEVICES.some((device) => existsSync(device)),
  };
}
