import { readFile } from 'node:fs/promises';
import { FormatError, InvalidArgumentError, throwIfAborted } from '../../errors.js';
import { kRates } from './resample.js';

/** Sound as it is in a file. */
export interface Recording {
  /** Samples per second. */
  readonly sampleRate: number;
  /** Samples of each channel, from -1 to 1. */
  readonly channels: readonly Float32Array[];
}

interface WaveFormat {
  readonly sampleRate: number;
  readonly numChannels: number;
}

interface WaveData {
  readonly chunkSize: number;
  readonly samples: { readonly length: number };
}

/** Length of a chunk whose writer did not know it, as streams have it, or gave it in 64 bits elsewhere. */
const kUnknownLength = 2 ** 32 - 1;

/** What whole numbers of a bit depth are divided by, and what is taken off before. */
const scales: Readonly<Record<string, readonly [scale: number, offset: number]>> = {
  8: [2 ** 7, 2 ** 7],
  16: [2 ** 15, 0],
  24: [2 ** 23, 0],
  32: [2 ** 31, 0],
  '32f': [1, 0],
  64: [1, 0],
};

/**
 * Reads a WAV file: PCM of 8 to 32 bits, floats, A-law, mu-law and IMA ADPCM, of 1 kHz to 768 kHz. Throws `InvalidArgumentError` where there is no such file,
 * `FormatError` for one that is not WAV, broken, shorter than it says or with samples that are no numbers, `CancelledError` when `signal` fires.
 */
export async function readWav(file: string, signal?: AbortSignal): Promise<Recording> {
  throwIfAborted(signal, 'readWav');
  const bytes = await readFile(file, signal && { signal }).catch((error: NodeJS.ErrnoException) => {
    throwIfAborted(signal, 'readWav');
    throw new InvalidArgumentError(`readWav: cannot read "${file}"; ${error.message}`, { cause: error });
  });
  const { default: wavefile } = await import('wavefile');
  try {
    const wave = new wavefile.WaveFile(bytes);
    checkLength(wave);
    if (wave.bitDepth === '4') wave.fromIMAADPCM();
    else if (wave.bitDepth === '8a') wave.fromALaw();
    else if (wave.bitDepth === '8m') wave.fromMuLaw();
    const { sampleRate, numChannels } = wave.fmt as WaveFormat;
    if (sampleRate < kRates[0] || sampleRate > kRates[1])
      throw new FormatError(`a rate of ${sampleRate} Hz; expected ${kRates[0]} to ${kRates[1]}`);
    const scale = scales[wave.bitDepth];
    if (scale === undefined) throw new FormatError(`samples of ${wave.bitDepth} bits; expected ${Object.keys(scales).join(', ')}`);
    const samples = wave.getSamples(false, Float64Array) as unknown as Float64Array | Float64Array[];
    const channels = (numChannels === 1 ? [samples] : samples) as Float64Array[];
    const scaled = channels.map((channel) => Float32Array.from(channel, (value) => (value - scale[1]) / scale[0]));
    for (const [channel, values] of scaled.entries()) {
      const broken = values.findIndex((value) => !Number.isFinite(value));
      if (broken >= 0) throw new FormatError(`sample ${broken} of channel ${channel} is ${values[broken]}; expected a finite number`);
    }
    return { sampleRate, channels: scaled };
  } catch (error) {
    throw new FormatError(`${file}: no WAV file that can be read; ${error instanceof Error ? error.message : error}`, { cause: error });
  }
}

/** Throws `FormatError` where samples are missing that the file says it has. */
function checkLength({ container, data, ds64 }: { readonly container: string; readonly data: object; readonly ds64: object }): void {
  const { chunkSize, samples } = data as WaveData;
  const { dataSizeHigh, dataSizeLow } = ds64 as { readonly dataSizeHigh: number; readonly dataSizeLow: number };
  const isLong = container === 'RF64' && chunkSize === kUnknownLength;
  const declared = isLong ? dataSizeHigh * 2 ** 32 + dataSizeLow : chunkSize === kUnknownLength ? 0 : chunkSize;
  if (samples.length < declared) throw new FormatError(`it is cut; got ${samples.length} bytes of samples, expected ${declared}`);
}
