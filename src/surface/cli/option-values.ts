import { InvalidArgumentError } from 'commander';

/** Of an option that may be repeated. */
export function collect(value: string, previous: string[] | undefined): string[] {
  return [...(previous ?? []), value];
}

export function number(least: number, most: number) {
  return (text: string): number => {
    const value = Number(text);
    if (text.trim() === '' || !(value >= least && value <= most)) {
      throw new InvalidArgumentError(`a number from ${least} to ${most}`);
    }
    return value;
  };
}

export function integer(least: number, most: number) {
  return (text: string): number => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < least || value > most) {
      throw new InvalidArgumentError(`a whole number from ${least} to ${most}`);
    }
    return value;
  };
}

const UNIT_MS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000 };
/** Longer is "never"; a timer of Node counts no further than 24 days. */
const DURATION_HOURS_MAX = 240;

/** `30s`, `5m`, `2h`, `0`, `never`, in milliseconds. */
export function duration(text: string): number {
  if (text === 'never') return Number.POSITIVE_INFINITY;
  if (text === '0') return 0;
  const [, count = '', unit = ''] = /^(\d{1,6})([smh])$/.exec(text) ?? [];
  const milliseconds = Number(count) * (UNIT_MS[unit] ?? Number.NaN);
  if (!(milliseconds <= DURATION_HOURS_MAX * 3_600_000)) {
    throw new InvalidArgumentError(
      `a duration like 30s, 5m or 2h (at most ${DURATION_HOURS_MAX}h), or 0, or never`,
    );
  }
  return milliseconds;
}

const UNIT_BYTES: Readonly<Record<string, number>> = {
  '': 1,
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
};

/** `4GiB-1` (what FAT32 holds), `700MB`, `4294967295`, in bytes. */
export function byteCount(least: number) {
  return (text: string): number => {
    const [, count = '', unit = '', minus = '0'] =
      /^(\d{1,16})(B|[KMG]i?B)?(?:-(\d{1,9}))?$/.exec(text) ?? [];
    const bytes = Number(count) * (UNIT_BYTES[unit] ?? Number.NaN) - Number(minus);
    if (count === '' || !Number.isSafeInteger(bytes) || bytes < least) {
      throw new InvalidArgumentError(`a size of at least ${least} bytes, like 4GiB-1 or 700MB`);
    }
    return bytes;
  };
}
