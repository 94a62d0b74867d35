import { FormatError, LorikeetError } from '../errors.js';
import type { JsonObject } from '../io/json.js';
import { cepstra, filterBank, type RecordingOptions, readCepstra, readFilterBank, samplesAt } from './audio/front-ends.js';
import { readWav } from './audio/wav.js';
import type { FrontEnd, Values } from './front-end.js';

/**
 * The front end of a model of sounds, for WAV files: the filter bank of AST, by `preprocessor_config.json` (`settings`) and the config, or the cepstral coefficients
 * of KWT, by the `frontend` of its config. Throws `ConfigError` for settings that are missing or wrong.
 */
export function audioFrontEnd(settings: JsonObject | undefined, config: JsonObject, options: RecordingOptions = {}): FrontEnd {
  if (config.frontend !== undefined) {
    const own = readCepstra(config);
    return frontEnd('cepstral coefficients', own.mel.sampleRate, options, (samples) => cepstra(samples, own));
  }
  const own = readFilterBank(settings, config);
  return frontEnd('log-mel filter bank', own.sampling_rate, options, (samples) => filterBank(samples, own));
}

function frontEnd(name: string, rate: number, options: RecordingOptions, compute: (samples: Float32Array) => Values): FrontEnd {
  return {
    name,
    async read(file, signal) {
      const recording = await readWav(file, signal);
      try {
        return compute(samplesAt(rate, recording, options));
      } catch (error) {
        if (!(error instanceof LorikeetError)) throw error;
        throw new FormatError(`${file}: ${error.message}`, { cause: error });
      }
    },
  };
}
