import { ShapeError } from '../../errors.js';
import { PowerSpectrum } from './fourier.js';

/** Samples of one channel, from -1 to 1. */
export type Samples = Float32Array | Float64Array;

/** How samples become a spectrogram of logarithms on the mel scale, 1127 ln(1 + f / 700). */
export interface LogMelOptions {
  /** In Hz. */
  readonly sampleRate: number;
  /** Samples of a frame. */
  readonly frame: number;
  /** Samples from one frame to the next. */
  readonly hop: number;
  /** Length of the Fourier transform, a power of two. */
  readonly transform: number;
  /** Hann window: of a period as long as the frame, or symmetric, which ends with zero. */
  readonly window: 'periodic' | 'symmetric';
  /** What is summed in the bins: magnitudes, or their squares. */
  readonly spectrum: 'magnitude' | 'power';
  readonly melBins: number;
  /** Where the first triangle begins and the last one ends, in Hz. */
  readonly lowHz: number;
  readonly highHz: number;
  /** Smaller sums count as this. */
  readonly floor: number;
  /** Whether each frame is made to have a mean of 0. */
  readonly removeMean: boolean;
  /** Share of the sample before that is taken off each sample of a frame; of the first one, off itself. */
  readonly preEmphasis: number;
}

/** The number of whole frames in so many samples. */
export const framesIn = (samples: number, { frame, hop }: Pick<LogMelOptions, 'frame' | 'hop'>): number =>
  samples < frame ? 0 : 1 + Math.floor((samples - frame) / hop);

/** A triangle on the mel scale: weights of neighbouring bins of the spectrum. */
interface Triangle {
  readonly first: number;
  readonly weights: readonly number[];
}

const mel = (hz: number): number => 1127 * Math.log1p(hz / 700);

/** Triangles that overlap by half, of height 1 and equally wide in mel. */
export function melTriangles({ sampleRate, transform, melBins, lowHz, highHz }: LogMelOptions): Triangle[] {
  const low = mel(lowHz);
  const width = (mel(highHz) - low) / (melBins + 1);
  const places = Array.from({ length: transform / 2 }, (_, bin) => (mel((bin * sampleRate) / transform) - low) / width);
  return Array.from({ length: melBins }, (_, index) => {
    const heights = places.map((place) => Math.max(0, 1 - Math.abs(place - index - 1)));
    const first = Math.max(
      0,
      heights.findIndex((height) => height > 0),
    );
    const end = heights.findLastIndex((height) => height > 0) + 1;
    return { first, weights: heights.slice(first, end) };
  });
}

/** Row-major [frames, melBins], natural logarithms, computed in double precision. Throws `ShapeError` where the samples do not fill a frame. */
export function logMel(samples: Samples, options: LogMelOptions): Float64Array {
  const { frame, hop, transform, melBins, floor, preEmphasis } = options;
  const frames = framesIn(samples.length, options);
  if (frames === 0) throw new ShapeError(`audio: too short for a frame; got ${samples.length} samples, expected at least ${frame}`);
  const period = options.window === 'periodic' ? frame : frame - 1;
  const window = Float64Array.from({ length: frame }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / period));
  const triangles = melTriangles(options);
  const spectrum = new PowerSpectrum(transform);
  const part = new Float64Array(frame);
  const bins = new Float64Array(transform / 2);
  const rows = new Float64Array(frames * melBins);
  for (let row = 0; row < frames; row++) {
    for (let i = 0; i < frame; i++) part[i] = samples[row * hop + i] as number;
    if (options.removeMean) subtractMean(part);
    if (preEmphasis !== 0) emphasise(part, preEmphasis);
    for (let i = 0; i < frame; i++) part[i] = (part[i] as number) * (window[i] as number);
    spectrum.of(part, bins);
    if (options.spectrum === 'magnitude') for (let i = 0; i < bins.length; i++) bins[i] = Math.sqrt(bins[i] as number);
    for (const [index, { first, weights }] of triangles.entries()) {
      let sum = 0;
      for (let j = 0; j < weights.length; j++) sum += (weights[j] as number) * (bins[first + j] as number);
      rows[row * melBins + index] = Math.log(Math.max(sum, floor));
    }
  }
  return rows;
}

function subtractMean(frame: Float64Array): void {
  let sum = 0;
  for (const value of frame) sum += value;
  const mean = sum / frame.length;
  for (let i = 0; i < frame.length; i++) frame[i] = (frame[i] as number) - mean;
}

function emphasise(frame: Float64Array, share: number): void {
  for (let i = frame.length - 1; i > 0; i--) frame[i] = (frame[i] as number) - share * (frame[i - 1] as number);
  frame[0] = (frame[0] as number) * (1 - share);
}
