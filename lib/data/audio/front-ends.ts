/** The front ends of AST and KWT: samples of one channel to what the network reads. */
import { z } from 'zod';
import { ConfigError, InvalidArgumentError } from '../../errors.js';
import { readConfig } from '../../models/config.js';
import type { Values } from '../front-end.js';
import { type LogMelOptions, logMel, type Samples } from './log-mel.js';
import { resample } from './resample.js';
import type { Recording } from './wav.js';

/** How a recording is brought to what a front end wants. */
export interface RecordingOptions {
  /** Brings another sample rate to the one that the model has learnt. Default true; false: another rate is an error. */
  readonly resample?: boolean;
  /** Which channel is read, from 0, or their mean. Default: a recording of more than one is an error. */
  readonly channel?: number | 'mean';
}

/** The samples of one channel at a rate. Throws `InvalidArgumentError` for an empty recording, for several channels without a choice, and for another rate that must not be changed. */
export function samplesAt(rate: number, { sampleRate, channels }: Recording, options: RecordingOptions = {}): Float32Array {
  const chosen = channelOf(channels, options.channel);
  if (chosen.length === 0) throw new InvalidArgumentError('audio: the recording has no samples');
  if (sampleRate === rate) return chosen;
  if (options.resample === false)
    throw new InvalidArgumentError(`audio: the model has learnt ${rate} Hz; got ${sampleRate} Hz; resample: true brings it there`);
  return resample(chosen, sampleRate, rate);
}

function channelOf(channels: readonly Float32Array[], channel: number | 'mean' | undefined): Float32Array {
  const [first] = channels;
  if (first === undefined) throw new InvalidArgumentError('audio: the recording has no channel');
  if (channel === 'mean') return first.map((_, i) => channels.reduce((sum, samples) => sum + (samples[i] as number), 0) / channels.length);
  if (channel === undefined && channels.length > 1)
    throw new InvalidArgumentError(`audio: the recording has ${channels.length} channels; say which one is read with channel, or "mean"`);
  const found = channels[channel ?? 0];
  if (found === undefined) throw new InvalidArgumentError(`audio: no channel ${channel}; the recording has ${channels.length}`);
  return found;
}

const filterBankKeys = z.object({
  num_mel_bins: z.int().positive().default(128),
  max_length: z.int().positive().default(1024),
  sampling_rate: z.int().positive().default(16000),
  do_normalize: z.boolean().default(true),
  mean: z.number().default(-4.2677393),
  std: z.number().positive().default(4.5689974),
});

export type FilterBankOptions = z.infer<typeof filterBankKeys>;

/** The settings of the filter bank of AST: those of its `preprocessor_config.json`, and where they say nothing of its config. */
export const readFilterBank = (
  settings: object | undefined,
  config: { readonly num_mel_bins?: unknown; readonly max_length?: unknown },
): FilterBankOptions => {
  const { num_mel_bins, max_length } = config;
  return readConfig(filterBankKeys, {
    ...(num_mel_bins !== undefined && { num_mel_bins }),
    ...(max_length !== undefined && { max_length }),
    ...settings,
  });
};

/**
 * The log-mel filter bank of Kaldi as AST reads it: frames of 25 ms every 10 ms. Samples from -1 to 1 to [maxLength, bins]: what is longer is cut, what is shorter
 * gets zeros, and then (x - mean) / (2 std). Throws `ShapeError` for samples that do not fill a frame.
 */
export function filterBank(samples: Samples, options: FilterBankOptions): Values {
  const { sampling_rate: rate, num_mel_bins: bins, max_length: length, mean, std } = options;
  const frame = Math.round(0.025 * rate);
  const rows = logMel(samples, {
    sampleRate: rate,
    frame,
    hop: Math.round(0.01 * rate),
    transform: 2 ** Math.ceil(Math.log2(frame)),
    window: 'symmetric',
    spectrum: 'power',
    melBins: bins,
    lowHz: 20,
    highHz: rate / 2,
    floor: 2 ** -23,
    removeMean: true,
    preEmphasis: 0.97,
  });
  const values = new Float32Array(length * bins);
  values.set(rows.subarray(0, values.length));
  if (options.do_normalize) for (let i = 0; i < values.length; i++) values[i] = ((values[i] as number) - mean) / (2 * std);
  return { values, shape: [length, bins] };
}

const cepstraKeys = z.object({
  sample_rate: z.int().positive(),
  clip_samples: z.int().positive(),
  frame_length: z.int().positive(),
  frame_hop: z.int().positive(),
  window: z.literal('hann_periodic'),
  dft_size: z.int().positive(),
  spectrum: z.literal('magnitude'),
  mel_bins: z.int().positive(),
  mel_low_hz: z.number().min(0),
  mel_high_hz: z.number().positive(),
  log_floor: z.number().positive(),
  log: z.literal('natural'),
});

export interface CepstraOptions {
  readonly mel: LogMelOptions;
  readonly samples: number;
  readonly coefficients: number;
}

/** The settings of the front end in the config of a KWT. Throws `ConfigError` where it has none. */
export function readCepstra({ frontend, input_coeffs }: { readonly frontend?: unknown; readonly input_coeffs?: unknown }): CepstraOptions {
  if (typeof frontend !== 'object' || frontend === null) throw new ConfigError('model config: key "frontend" is missing');
  const keys = readConfig(cepstraKeys, frontend);
  if (!Number.isInteger(Math.log2(keys.dft_size)) || keys.dft_size < keys.frame_length)
    throw new ConfigError(`model config: "dft_size" must be a power of two and as long as a frame; got ${keys.dft_size}`);
  const mel: LogMelOptions = {
    sampleRate: keys.sample_rate,
    frame: keys.frame_length,
    hop: keys.frame_hop,
    transform: keys.dft_size,
    window: 'periodic',
    spectrum: keys.spectrum,
    melBins: keys.mel_bins,
    lowHz: keys.mel_low_hz,
    highHz: keys.mel_high_hz,
    floor: keys.log_floor,
    removeMean: false,
    preEmphasis: 0,
  };
  return { mel, samples: keys.clip_samples, coefficients: Number(input_coeffs) };
}

/** The cepstral coefficients that KWT reads: a clip of a second, or its middle, or with zeros on both sides, to [frames, coefficients]. */
export function cepstra(samples: Samples, { mel, samples: length, coefficients }: CepstraOptions): Values {
  const rows = logMel(centred(samples, length), mel);
  const { melBins: bins } = mel;
  const frames = rows.length / bins;
  const cosines = Float64Array.from({ length: coefficients * bins }, (_, at) => {
    const [k, n] = [Math.floor(at / bins), at % bins];
    return Math.sqrt(2 / bins) * Math.cos((Math.PI * k * (n + 0.5)) / bins);
  });
  const values = new Float32Array(frames * coefficients);
  for (let row = 0; row < frames; row++)
    for (let k = 0; k < coefficients; k++) {
      let sum = 0;
      for (let n = 0; n < bins; n++) sum += (cosines[k * bins + n] as number) * (rows[row * bins + n] as number);
      values[row * coefficients + k] = sum;
    }
  return { values, shape: [frames, coefficients] };
}

/** As many samples around the middle. */
function centred(samples: Samples, length: number): Samples {
  if (samples.length >= length) return samples.subarray((samples.length - length) >> 1, ((samples.length - length) >> 1) + length);
  const padded = new Float64Array(length);
  padded.set(samples, (length - samples.length) >> 1);
  return padded;
}
