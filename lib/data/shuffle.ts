/** Four 32-bit words of Philox 4x32-10 for a counter; equal to the generator of the native engine. */
export function philox(seed: bigint, stream: bigint, index: bigint): readonly [number, number, number, number] {
  return philoxWords(words(seed), words(stream), words(index));
}

type Words = readonly [low: number, high: number];

const words = (value: bigint): Words => [Number(value & kMask), Number((value >> 32n) & kMask)];

function philoxWords(seed: Words, stream: Words, index: Words): readonly [number, number, number, number] {
  let [c0, c1] = index;
  let [c2, c3] = stream;
  let [k0, k1] = seed;
  for (let round = 0; round < 10; round++) {
    const high0 = highWord(0xd2511f53, c0);
    const low0 = Math.imul(0xd2511f53, c0);
    const high1 = highWord(0xcd9e8d57, c2);
    const low1 = Math.imul(0xcd9e8d57, c2);
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1 >>> 0;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0 >>> 0;
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return [c0, c1, c2, c3];
}

const kMask = 0xffff_ffffn;

/** High word of a product of two 32-bit numbers. */
function highWord(a: number, b: number): number {
  const low = (a & 0xffff) * (b & 0xffff);
  const middle = (a >>> 16) * (b & 0xffff) + (low >>> 16);
  const middle2 = (a & 0xffff) * (b >>> 16) + (middle & 0xffff);
  return ((a >>> 16) * (b >>> 16) + Math.floor(middle / 0x10000) + Math.floor(middle2 / 0x10000)) >>> 0;
}

/**
 * A permutation of 0 … size - 1 that depends on `seed`, `epoch` and `source` alone (Fisher-Yates over a counter-based generator). Sources of a mixture have
 * numbers from 0, so that sets of one size do not run through their rows in step.
 */
export function permutation(size: number, seed: number, epoch: number, source = 0): Uint32Array {
  const order = Uint32Array.from({ length: size }, (_, index) => index);
  const key = words(BigInt(seed));
  const stream = words(kShuffleStream + (BigInt(source) << 48n) + BigInt(epoch));
  for (let last = size - 1; last > 0; last--) {
    const [high, low] = philoxWords(key, stream, [last, 0]);
    // 53 random bits over at most 2^32 places: the bias is below 2^-21.
    const pick = Math.floor(((high * 2 ** 21 + (low >>> 11)) / 2 ** 53) * (last + 1));
    const kept = order[last] as number;
    order[last] = order[pick] as number;
    order[pick] = kept;
  }
  return order;
}

/** Streams from here on belong to the order of data, one an epoch. */
const kShuffleStream = 1n << 40n;
