/** Uniform numbers of the half-open interval [0, 1), with 53 random bits each. */
export type RandomStream = () => number;

/**
 * xoshiro128** (Blackman and Vigna, 2018) seeded through splitmix32. Small, fast, passes BigCrush, and gives the
 * same numbers on every platform, which `seed` promises. Not for secrets.
 */
export function randomStream(seed: number): RandomStream {
  const next32 = xoshiro(seed);
  return () => {
    const high = next32() >>> 5; // 27 bits
    const low = next32() >>> 6; // 26 bits
    return (high * 0x4000000 + low) / 0x20000000000000;
  };
}

function xoshiro(seed: number): () => number {
  const mix = splitmix(seed);
  let [a, b, c, d] = [mix(), mix(), mix(), mix()];
  return () => {
    const product = Math.imul(b, 5);
    const result = Math.imul((product << 7) | (product >>> 25), 9) >>> 0;
    const shifted = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= shifted;
    d = (d << 11) | (d >>> 21);
    return result;
  };
}

function splitmix(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x9e3779b9) | 0;
    let mixed = state ^ (state >>> 16);
    mixed = Math.imul(mixed, 0x21f0aaad);
    mixed ^= mixed >>> 15;
    mixed = Math.imul(mixed, 0x735a2d97);
    return mixed ^ (mixed >>> 15);
  };
}
