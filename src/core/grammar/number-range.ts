import { codePointSet } from './code-points.ts';
import {
  choice,
  EMPTY,
  type Expression,
  never,
  oneOfSet,
  optional,
  repeat,
  sequence,
  text,
} from './expression.ts';
import { FRACTION_DIGITS_MAX, INTEGER_DIGITS_MAX } from './grammar-limits.ts';

export interface Bound {
  readonly value: number;
  readonly isExclusive: boolean;
  /** Of the keyword. */
  readonly path: string;
}

export interface NumberFacts {
  readonly low: Bound | undefined;
  readonly high: Bound | undefined;
  /** Integers only, whatever the type says. */
  readonly isWhole: boolean;
}

/** Digits before the point when no bound asks for more: every such integer fits into 64 bits with sign. */
const USUAL_DIGITS = 18;
/** Numbers are counted in units of the last decimal that is written. */
const UNIT = 10n ** BigInt(FRACTION_DIGITS_MAX);
const DIGIT = codePointSet([[0x30, 0x39]]);

const digits = (min: number, max: number | undefined) => repeat(oneOfSet(DIGIT), min, max);
const digitBetween = (low: number, high: number): Expression =>
  low > high
    ? never('#', 'no digit')
    : low === high
      ? text(String(low))
      : oneOfSet([[0x30 + low, 0x30 + high]]);

/** Integers without exponent or fraction. Nothing is written that reads back as a number outside of the bounds. */
export function integerGrammar(facts: NumberFacts, path: string): Expression {
  const [from, to] = rangeOf(facts);
  const [least, most] = [ceilingTo(from, UNIT) / UNIT, -(ceilingTo(-to, UNIT) / UNIT)];
  if (least > most) return never(path, emptyRange('integer', facts));
  // From 1 on: "-0" is a number, but nobody's integer.
  if (least === -most) return choice([text('0'), sequence(optional(text('-')), naturalRange(1n, most))]);
  return choice([
    ...(most < 0n ? [] : [naturalRange(larger(least, 0n), most)]),
    ...(least >= 0n ? [] : [sequence(text('-'), naturalRange(larger(-most, 1n), -least))]),
  ]);
}

/** Numbers without exponent, with at most `FRACTION_DIGITS_MAX` decimals. */
export function numberGrammar(facts: NumberFacts, path: string): Expression {
  const [from, to] = rangeOf(facts);
  if (from > to) return never(path, emptyRange('number', facts));
  if (from === -to) return sequence(optional(text('-')), decimalRange(0n, to));
  return choice([
    ...(to < 0n ? [] : [decimalRange(larger(from, 0n), to)]),
    ...(from >= 0n ? [] : [sequence(text('-'), decimalRange(larger(-to, 0n), -from))]),
  ]);
}

/** In units, both ends included. */
function rangeOf({ low, high }: NumberFacts): readonly [from: bigint, to: bigint] {
  const first = low === undefined ? undefined : insideOf(low, 1);
  const last = high === undefined ? undefined : insideOf(high, -1);
  const isFar = [first, last].some((bound) => bound !== undefined && absolute(bound) > reach(USUAL_DIGITS));
  const most = reach(isFar ? INTEGER_DIGITS_MAX : USUAL_DIGITS);
  return [larger(first ?? -most, -most), smaller(last ?? most, most)];
}

const reach = (digitCount: number) => 10n ** BigInt(digitCount) * UNIT - 1n;

function emptyRange(noun: string, { low, high }: NumberFacts): string {
  const least = low === undefined ? '' : ` ${low.isExclusive ? 'above' : 'from'} ${low.value}`;
  const most = high === undefined ? '' : ` ${high.isExclusive ? 'below' : 'up to'} ${high.value}`;
  return `no ${noun}${least}${most} can be written with ${INTEGER_DIGITS_MAX} digits`;
}

/**
 * The bound in units, rounded into the range (`direction` 1 for lower bounds, −1 for upper ones). A decimal is read
 * back as the nearest double, which never carries it across a double: whatever is not below the decimal of the bound, or
 * for an exclusive one the decimal of the next double, stays inside.
 */
function insideOf({ value, isExclusive }: Bound, direction: 1 | -1): bigint {
  const units = unitsOf(isExclusive ? nextDouble(value, direction) : value, direction);
  // The largest 64-bit integers, with and without sign, are what people write, and no doubles: rounded up by one.
  const isRounded = direction === -1 && (value === 2 ** 63 || value === 2 ** 64);
  return isRounded ? smaller(units, (BigInt(value) - 1n) * UNIT) : units;
}

function nextDouble(value: number, direction: 1 | -1): number {
  if (value === 0) return direction * Number.MIN_VALUE;
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, value);
  // Doubles of one sign are ordered like their bits.
  view.setBigInt64(0, view.getBigInt64(0) + (value > 0 === direction > 0 ? 1n : -1n));
  return view.getFloat64(0);
}

/** A double in units: a fraction by the decimal that is written for it, rounded up (1) or down (−1). */
function unitsOf(value: number, direction: 1 | -1): bigint {
  if (Number.isInteger(value)) return BigInt(value) * UNIT;
  const [mantissa = '0', exponent = '0'] = String(Math.abs(value)).split('e');
  const [whole = '0', decimals = ''] = mantissa.split('.');
  const shift = Number(exponent) - decimals.length + FRACTION_DIGITS_MAX;
  const integer = BigInt(whole + decimals) * (value < 0 ? -1n : 1n);
  if (shift >= 0) return integer * 10n ** BigInt(shift);
  const divisor = 10n ** BigInt(-shift);
  return direction === 1 ? ceilingTo(integer, divisor) / divisor : -(ceilingTo(-integer, divisor) / divisor);
}

/** Whole numbers without leading zeros. */
function naturalRange(least: bigint, most: bigint): Expression {
  if (least > most) return never('#', 'no whole number');
  const [shortest, longest] = [least.toString().length, most.toString().length];
  if (shortest === longest) return sameLength(least.toString(), most.toString());
  if (least === 0n) return choice([text('0'), naturalRange(1n, most)]);
  const isFromStart = least === 10n ** BigInt(shortest - 1);
  const isToEnd = most === 10n ** BigInt(longest) - 1n;
  const [from, to] = [isFromStart ? shortest : shortest + 1, isToEnd ? longest : longest - 1];
  return choice([
    ...(isFromStart ? [] : [sameLength(least.toString(), '9'.repeat(shortest))]),
    ...(from > to ? [] : [sequence(oneOfSet([[0x31, 0x39]]), digits(from - 1, to - 1))]),
    ...(isToEnd ? [] : [sameLength(`1${'0'.repeat(longest - 1)}`, most.toString())]),
  ]);
}

/** Digit strings of one length between two others; undefined: nothing more to respect on that side. */
function sameLength(
  low: string | undefined,
  high: string | undefined,
  length = low?.length ?? 0,
): Expression {
  if (length === 0) return EMPTY;
  const isLow = low !== undefined && /[^0]/.test(low);
  const isHigh = high !== undefined && /[^9]/.test(high);
  if (!isLow && !isHigh) return digits(length, length);
  return byFirstDigit(isLow ? low : undefined, isHigh ? high : undefined, (lowRest, highRest) =>
    sameLength(lowRest, highRest, length - 1),
  );
}

/** The first digit's own bounds, and for digits in between no bound on the rest. */
function byFirstDigit(
  low: string | undefined,
  high: string | undefined,
  rest: (low: string | undefined, high: string | undefined) => Expression,
): Expression {
  const least = low === undefined ? 0 : Number(low[0]);
  const most = high === undefined ? 9 : Number(high[0]);
  const lowRest = low?.slice(1);
  const highRest = high?.slice(1);
  if (least === most) return sequence(text(String(least)), rest(lowRest, highRest));
  const from = low === undefined ? least : least + 1;
  const to = high === undefined ? most : most - 1;
  return choice([
    ...(low === undefined ? [] : [sequence(text(String(least)), rest(lowRest, undefined))]),
    sequence(digitBetween(from, to), rest(undefined, undefined)),
    ...(high === undefined ? [] : [sequence(text(String(most)), rest(undefined, highRest))]),
  ]);
}

/** Numbers of units, as decimals. */
function decimalRange(least: bigint, most: bigint): Expression {
  const [low, high] = [least / UNIT, most / UNIT];
  const [lowFraction, highFraction] = [fractionOf(least), fractionOf(most)];
  if (low === high) return sequence(text(low.toString()), fraction(lowFraction, highFraction));
  const isLowWhole = !/[^0]/.test(lowFraction);
  const isHighWhole = !/[^9]/.test(highFraction);
  const from = isLowWhole ? low : low + 1n;
  const to = isHighWhole ? high : high - 1n;
  return choice([
    ...(isLowWhole ? [] : [sequence(text(low.toString()), fraction(lowFraction, undefined))]),
    ...(from > to ? [] : [sequence(naturalRange(from, to), fraction(undefined, undefined))]),
    ...(isHighWhole ? [] : [sequence(text(high.toString()), fraction(undefined, highFraction))]),
  ]);
}

const fractionOf = (units: bigint) => (units % UNIT).toString().padStart(FRACTION_DIGITS_MAX, '0');

/** Nothing, or a point and digits. */
function fraction(low: string | undefined, high: string | undefined): Expression {
  if (isZero(high)) return EMPTY;
  const decimals = sequence(text('.'), fractionDigits(low, high, FRACTION_DIGITS_MAX));
  return isAbove(low) ? decimals : optional(decimals);
}

/** At least one digit; it may end wherever what was left out would be zeros within the bounds. */
function fractionDigits(low: string | undefined, high: string | undefined, left: number): Expression {
  const isLow = isAbove(low);
  const isHigh = high !== undefined && /[^9]/.test(high);
  if (!isLow && !isHigh) return digits(1, left);
  return byFirstDigit(isLow ? low : undefined, isHigh ? high : undefined, (lowRest, highRest) => {
    // At the end of an upper bound only zeros could follow: nobody writes them.
    if (left === 1 || (isZero(highRest) && !isAbove(lowRest))) return EMPTY;
    const more = fractionDigits(lowRest, highRest, left - 1);
    return isAbove(lowRest) ? more : optional(more);
  });
}

const isAbove = (low: string | undefined): low is string => low !== undefined && /[^0]/.test(low);
const isZero = (high: string | undefined) => high !== undefined && !/[^0]/.test(high);

const larger = (left: bigint, right: bigint) => (left > right ? left : right);
const smaller = (left: bigint, right: bigint) => (left < right ? left : right);
const absolute = (value: bigint) => (value < 0n ? -value : value);

/** The smallest multiple of `step` that is not below. */
function ceilingTo(value: bigint, step: bigint): bigint {
  const rest = ((value % step) + step) % step;
  return rest === 0n ? value : value + step - rest;
}
