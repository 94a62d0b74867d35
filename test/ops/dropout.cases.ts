import { dropout } from 'lorikeet/ops';
import type { OpCase } from '../helpers/battery.js';

/** Philox 4x32-10 in plain integers. */
function philox(seed: number, stream: number, index: number): number[] {
  let [c0, c1, c2, c3] = [BigInt(index), 0n, BigInt(stream), 0n];
  let [k0, k1] = [BigInt(seed), 0n];
  const low = (x: bigint): bigint => x & 0xffffffffn;
  for (let round = 0; round < 10; round++) {
    const p0 = 0xd2511f53n * c0;
    const p1 = 0xcd9e8d57n * c2;
    [c0, c1, c2, c3] = [low((p1 >> 32n) ^ c1 ^ k0), low(p1), low((p0 >> 32n) ^ c3 ^ k1), low(p0)];
    k0 = low(k0 + 0x9e3779b9n);
    k1 = low(k1 + 0xbb67ae85n);
  }
  return [c0, c1, c2, c3].map(Number);
}

const kept = (seed: number, stream: number, element: number, p: number): boolean =>
  ((philox(seed, stream, Math.floor(element / 4))[element % 4] as number) >>> 8) / 2 ** 24 >= Math.fround(p);

export const cases: OpCase[] = [0, 0.1, 0.75].map(
  (p): OpCase => ({
    name: `dropout of ${p}`,
    covers: ['dropout'],
    inputs: [{ shape: [3, 37] }],
    run: (x) => dropout(x, p, { seed: 9n, stream: 4n }),
    reference: (x) => x.data.map((v, i) => (kept(9, 4, i, p) ? v / (1 - p) : 0)),
    notBatched: 'the mask counts elements from the start of the batch',
  }),
);
