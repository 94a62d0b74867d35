/** Four 32-bit words of Philox 4x32-10 for a counter; equal to the generator of the native engine. */
export function philox(seed: bigint, stream: bigint, index: bigint): readonly [number, number, number, number] {
  const [c0, c1, c2, c3] = philoxInto(new Uint32Array(4), words(seed), words(stream), words(index));
  return [c0 as number, c1 as number, c2 as number, c3 as number];
}

type Words = readonly [low: number, high: number];

const words = (value: bigint): Words => [Number(value & kMask), Number((value >> 32n) & kMask)];

/** Writes the four words into `out`. All arithmetic is on 32-bit integers, where sums wrap around and products are taken by `Math.imul`. */
function philoxInto(
  out: Uint32Array,
  [seedLow, seedHigh]: Words,
  [streamLow, streamHigh]: Words,
  [indexLow, indexHigh]: Words,
): Uint32Array {
  let c0 = indexLow | 0;
  let c1 = indexHigh | 0;
  let c2 = streamLow | 0;
  let c3 = streamHigh | 0;
  let k0 = seedLow | 0;
  let k1 = seedHigh | 0;
  for (let round = 0; round < 10; round++) {
    const high0 = highWord(0xd251, 0x1f53, c0);
    const high1 = highWord(0xcd9e, 0x8d57, c2);
    const low0 = Math.imul(0xd2511f53, c0);
    const low1 = Math.imul(0xcd9e8d57, c2);
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 = (k0 + 0x9e3779b9) | 0;
    k1 = (k1 + 0xbb67ae85) | 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
  return out;
}

const kMask = 0xffff_ffffn;

/** High word of the product of two 32-bit numbers, the first in halves of 16 bits. No sum of a half product and a carry exceeds 32 bits. */
function highWord(high: number, low: number, other: number): number {
  const otherLow = other & 0xffff;
  const otherHigh = other >>> 16;
  const middle = (Math.imul(high, otherLow) + (Math.imul(low, otherLow) >>> 16)) | 0;
  const middle2 = (Math.imul(low, otherHigh) + (middle & 0xffff)) | 0;
  return (Math.imul(high, otherHigh) + (middle >>> 16) + (middle2 >>> 16)) | 0;
}

/**
 * A permutation of 0 … size - 1 that depends on `seed`, `epoch` and `source` alone (Fisher-Yates over a counter-based generator). Sources of a mixture have
 * numbers from 0, so that sets of one size do not run through their rows in step.
 */
export function permutation(size: number, seed: number, epoch: number, source = 0): Uint32Array {
  const order = new Uint32Array(size);
  for (let index = 0; index < size; index++) order[index] = index;
  const key = words(BigInt(seed));
  const stream = words(kShuffleStream + (BigInt(source) << 48n) + BigInt(epoch));
  const random = new Uint32Array(4);
  const counter: [number, number] = [0, 0];
  for (let last = size - 1; last > 0; last--) {
    counter[0] = last;
    philoxInto(random, key, stream, counter);
    // 53 random bits over at most 2^32 places: the bias is below 2^-21.
    const bits = (random[0] as number) * 2 ** 21 + ((random[1] as number) >>> 11);
    const pick = Math.floor((bits / 2 ** 53) * (last + 1));
    const kept = order[last] as number;
    order[last] = order[pick] as number;
    order[pick] = kept;
  }
  return order;
}

/** Streams from here on belong to the order of data, one an epoch. */
const kShuffleStream = 1n << 40n;
