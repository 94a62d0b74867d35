import { InvalidArgumentError } from '../../errors.js';

/** Zero crossings of the sinc on each side that the window lets through. */
const kCrossings = 16;
/** The filter ends a little below half the lower rate. */
const kRolloff = 0.95;

/** The lowest and the highest rate, in Hz: together they bound the filters to some 200 MB. */
export const kRates = [1_000, 768_000] as const;

const divisor = (a: number, b: number): number => (b === 0 ? a : divisor(b, a % b));

/**
 * Samples at another rate, by interpolation with a sinc under a Hann window, in double precision: ceil(length * to / from) of them. Frequencies above half the
 * lower rate are taken out. Throws `InvalidArgumentError` for rates that are not whole or outside 1 kHz to 768 kHz.
 */
export function resample(samples: Float32Array, from: number, to: number): Float32Array {
  for (const rate of [from, to])
    if (!(Number.isInteger(rate) && rate >= kRates[0] && rate <= kRates[1]))
      throw new InvalidArgumentError(`resample: rates must be whole and from ${kRates[0]} to ${kRates[1]} Hz; got ${from} and ${to}`);
  if (from === to) return samples;
  const common = divisor(from, to);
  const [step, phases] = [from / common, to / common];
  // The cut-off as a share of the old rate, and how many old samples lie within the window on each side.
  const cut = kRolloff * Math.min(1, to / from);
  const reach = Math.ceil(kCrossings / cut);
  const result = new Float32Array(Math.ceil((samples.length * to) / from));
  const kernels = Array.from({ length: Math.min(phases, result.length) }, (_, phase) =>
    kernel(((phase * step) % phases) / phases, cut, reach),
  );
  for (let i = 0; i < result.length; i++) {
    const weights = kernels[i % phases] as Float64Array;
    const first = Math.floor((i * step) / phases) - reach;
    const start = Math.max(0, -first);
    const end = Math.min(weights.length, samples.length - first);
    let sum = 0;
    for (let j = start; j < end; j++) sum += (weights[j] as number) * (samples[first + j] as number);
    result[i] = sum;
  }
  return result;
}

/** Weights of the old samples around a new one that lies `offset` of a sample behind one of them. */
function kernel(offset: number, cut: number, reach: number): Float64Array {
  return Float64Array.from({ length: 2 * reach + 2 }, (_, j) => {
    const distance = (j - reach - offset) * cut;
    if (Math.abs(distance) >= kCrossings) return 0;
    const window = Math.cos((Math.PI * distance) / (2 * kCrossings)) ** 2;
    return cut * window * (distance === 0 ? 1 : Math.sin(Math.PI * distance) / (Math.PI * distance));
  });
}
