/** Four 32-bit words of Philox 4x32-10 for a counter; equal to the generator of the native engine. */
export function philox(seed: bigint, stream: bigint, index: bigint): readonly [number, number, number, number] {
  let c0 = Number(index & kMask);
  let c1 = Number((index >> 32n) & kMask);
  let c2 = Number(stream & kMask);
  let c3 = Number((stream >> 32n) & kMask);
  let k0 = Number(seed & kMask);
  let k1 = Number((seed >> 32n) & kMask);
  for (let round = 0; round < 10; round++) {
    const [high0, low0] = multiply(0xd2511f53, c0);
    const [high1, low1] = multiply(0xcd9e8d57, c2);
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0;
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return [c0, c1, c2, c3];
}

const kMask = 0xffff_ffffn;

/** High and low words of a product of two 32-bit numbers. */
function multiply(a: number, b: number): readonly [number, number] {
  const low = (a & 0xffff) * (b & 0xffff);
  const middle = (a >>> 16) * (b & 0xffff) + (low >>> 16);
  const middle2 = (a & 0xffff) * (b >>> 16) + (middle & 0xffff);
  const high = (a >>> 16) * (b >>> 16) + Math.floor(middle / 0x10000) + Math.floor(middle2 / 0x10000);
  return [high >>> 0, Math.imul(a, b) >>> 0];
}

/** A permutation of 0 … size - 1 that depends on `seed` and `epoch` alone (Fisher-Yates over a counter-based generator). */
export function permutation(size: number, seed: number, epoch: number): Uint32Array {
  const order = Uint32Array.from({ length: size }, (_, index) => index);
  for (let last = size - 1; last > 0; last--) {
    const [high, low] = philox(BigInt(seed), kShuffleStream + BigInt(epoch), BigInt(last));
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
