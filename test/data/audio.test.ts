import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { ConfigError, FormatError, InvalidArgumentError, ShapeError } from 'lorikeet';
import wavefile from 'wavefile';
import { filterBank, readFilterBank, samplesAt } from '#dist/data/audio/front-ends.js';
import { framesIn } from '#dist/data/audio/log-mel.js';
import { resample } from '#dist/data/audio/resample.js';
import { readWav } from '#dist/data/audio/wav.js';
import { audioFrontEnd } from '#dist/data/audio.js';
import { temporaryFolder } from '../helpers/command-line.js';
import { goldenEncoder } from '../helpers/encoders.js';
import { readJson } from '../helpers/folders.js';
import { distance, near } from '../helpers/numbers.js';

type Rows = Record<string, number[]>;
interface Recorded {
  sine: { frames: number; rows: Rows };
  impulse: { frames: number; rows: Rows };
  noise: { frames: number; rows: Rows };
  normalised: Rows;
}

const recorded = readJson<Recorded>(`${goldenEncoder('filter-bank')}.json`);
const sine = (length: number, hz: number, rate: number, height = 0.4): Float32Array =>
  Float32Array.from({ length }, (_, i) => height * Math.sin((2 * Math.PI * hz * i) / rate));

function noise(length: number): Float32Array {
  let state = 1;
  return Float32Array.from({ length }, () => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647 - 0.5;
  });
}

const impulse = new Float32Array(4000);
impulse[700] = 0.9;
const waves = { sine: sine(8000, 1000, 16000), impulse, noise: noise(6000) };

test('the filter bank is that of transformers', (t) => {
  for (const name of ['sine', 'impulse', 'noise'] as const) {
    const { frames, rows } = recorded[name];
    t.is(framesIn(waves[name].length, { frame: 400, hop: 160 }), frames);
    const { values, shape } = filterBank(waves[name], readFilterBank({ do_normalize: false, max_length: 64 }, {}));
    t.deepEqual(shape, [64, 128]);
    for (const [row, expected] of Object.entries(rows))
      near(t, values.subarray(Number(row) * 128, (Number(row) + 1) * 128), expected, 1e-3, `${name}, frame ${row}`);
    t.true(values.subarray(frames * 128).every((value) => value === 0));
  }
  const loudest = filterBank(waves.sine, readFilterBank({ do_normalize: false, max_length: 1 }, {})).values;
  // 1 kHz is 1000 mel; triangles are centred 31.7 + 21.7 (i + 1) mel.
  t.is(loudest.indexOf(Math.max(...loudest)), 43);
});

test('frames are normalised and cut, and silence at the end is what zeros become', (t) => {
  const { values } = filterBank(waves.noise, readFilterBank(undefined, { max_length: 40, num_mel_bins: 128 }));
  near(t, values.subarray(0, 128), recorded.normalised['0'] ?? [], 1e-4, 'first');
  near(t, values.subarray(39 * 128), recorded.normalised['39'] ?? [], 1e-4, 'last');
  const padding = filterBank(waves.impulse, readFilterBank(undefined, {})).values;
  t.is(padding.length, 1024 * 128);
  near(t, [padding.at(-1) ?? 0], [0.46704], 1e-5, 'padding');
});

test('resampling keeps a tone, and takes out what the lower rate cannot hold', (t) => {
  for (const [from, to, hz] of [
    [8000, 16000, 1000],
    [44100, 16000, 3000],
    [16000, 11025, 700],
  ] as const) {
    const got = resample(sine(from / 2, hz, from), from, to);
    t.is(got.length, Math.ceil(to / 2));
    const middle = (x: Float32Array): Float32Array => x.subarray(1000, x.length - 1000);
    near(t, middle(got), middle(sine(got.length, hz, to)), 2e-3, `${from} to ${to} Hz`);
  }
  const gone = resample(sine(22050, 12000, 44100), 44100, 16000).subarray(500, 7500);
  t.true(distance(gone, new Float32Array(gone.length)) < 2e-3);
  t.is(resample(waves.noise, 16000, 16000), waves.noise);
  for (const [from, to] of [
    [0, 16000],
    [999, 16000],
    [4_294_967_291, 16000],
    [16000, 768_001],
    [44100.5, 16000],
  ] as const)
    t.throws(() => resample(waves.noise, from, to), { instanceOf: InvalidArgumentError, message: /from 1000 to 768000 Hz/ });
  t.is(resample(waves.noise.subarray(0, 10), 767_999, 16000).length, 1);
});

test('WAV files of every depth give the samples', async (t) => {
  const folder = temporaryFolder();
  const left = sine(800, 440, 16000);
  const right = left.map((value) => -value / 2);
  for (const [depth, tolerance] of [
    ['8', 2e-2],
    ['16', 1e-4],
    ['24', 1e-6],
    ['32', 1e-6],
    ['32f', 0],
    ['64', 0],
    ['8m', 2e-2],
  ] as const) {
    const wave = new wavefile.WaveFile();
    const full =
      depth.includes('f') || depth === '64' ? 1 : depth === '8' ? 127 : depth === '8m' ? 2 ** 15 - 1 : 2 ** (Number(depth) - 1) - 1;
    const scaled = [left, right].map((channel) =>
      Array.from(channel, (value) => (full === 1 ? value : Math.round(value * full) + (depth === '8' ? 128 : 0))),
    );
    wave.fromScratch(2, 16000, depth === '8m' ? '16' : depth, scaled);
    if (depth === '8m') wave.toMuLaw();
    const file = join(folder, `${depth}.wav`);
    await writeFile(file, wave.toBuffer());
    const { sampleRate, channels } = await readWav(file);
    t.is(sampleRate, 16000);
    t.is(channels.length, 2);
    near(t, channels[0] ?? [], left, tolerance, `${depth} bits, left`);
    near(t, channels[1] ?? [], right, tolerance, `${depth} bits, right`);
  }
});

test('recordings that do not fit are refused', async (t) => {
  const folder = temporaryFolder();
  const file = join(folder, 'stereo.wav');
  const wave = new wavefile.WaveFile();
  wave.fromScratch(2, 8000, '16', [Array.from(sine(4000, 440, 8000, 9000), Math.round), new Array<number>(4000).fill(0)]);
  await writeFile(file, wave.toBuffer());
  const read = (options?: object, settings?: object): Promise<unknown> =>
    audioFrontEnd({ max_length: 64, ...settings }, {}, options).read(file);
  await t.throwsAsync(read(), { instanceOf: FormatError, message: /stereo\.wav: .*2 channels; say which/ });
  await t.throwsAsync(read({ channel: 2 }), { instanceOf: FormatError, message: /no channel 2/ });
  await t.throwsAsync(read({ channel: 0, resample: false }), { instanceOf: FormatError, message: /has learnt 16000 Hz; got 8000 Hz/ });
  await t.notThrowsAsync(read({ channel: 'mean' }));
  await t.throwsAsync(readWav(join(folder, 'none.wav')), { instanceOf: InvalidArgumentError, message: /cannot read/ });
  await writeFile(join(folder, 'text.wav'), 'not sound at all, but long enough to look at');
  await t.throwsAsync(readWav(join(folder, 'text.wav')), { instanceOf: FormatError, message: /text\.wav: no WAV file/ });
  await writeFile(join(folder, 'cut.wav'), wave.toBuffer().subarray(0, 30));
  await t.throwsAsync(readWav(join(folder, 'cut.wav')), { instanceOf: FormatError });
  t.throws(() => filterBank(new Float32Array(399), readFilterBank(undefined, {})), {
    instanceOf: ShapeError,
    message: /got 399 samples, expected at least 400/,
  });
  t.throws(() => samplesAt(16000, { sampleRate: 16000, channels: [new Float32Array(0)] }), { message: /no samples/ });
  t.throws(() => readFilterBank({ std: 0 }, {}), { instanceOf: ConfigError });
  t.throws(() => audioFrontEnd(undefined, { frontend: { sample_rate: 16000 } }), { instanceOf: ConfigError });
});

test('a WAV file that is cut, has no numbers or a rate that cannot be is refused', async (t) => {
  const folder = temporaryFolder();
  const bytesOf = (samples: number[] = [0.5, -0.5, 0.25, 0], depth = '32f'): Buffer => {
    const wave = new wavefile.WaveFile();
    wave.fromScratch(1, 16000, depth, samples);
    return Buffer.from(wave.toBuffer());
  };
  const read = async (name: string, bytes: Buffer): Promise<number[]> => {
    await writeFile(join(folder, name), bytes);
    const { channels } = await readWav(join(folder, name));
    return [...(channels[0] ?? [])];
  };
  const refused = async (name: string, bytes: Buffer, message: RegExp): Promise<void> => {
    const error = await t.throwsAsync(read(name, bytes), { instanceOf: FormatError, message });
    t.regex(error?.message ?? '', new RegExp(name));
  };
  const whole = bytesOf();
  for (const rate of [1, 999, 768_001, 4_294_967_291]) {
    const other = Buffer.from(whole);
    other.writeUInt32LE(rate, whole.indexOf('fmt ') + 12);
    await refused('rate.wav', other, new RegExp(`a rate of ${rate} Hz; expected 1000 to 768000`));
  }
  t.deepEqual(await read('whole.wav', whole), [0.5, -0.5, 0.25, 0]);
  await refused('half.wav', whole.subarray(0, whole.length - 8), /it is cut; got 8 bytes of samples, expected 16/);
  const pcm = bytesOf(
    Array.from({ length: 1000 }, (_, i) => i),
    '16',
  );
  await refused('cut.wav', pcm.subarray(0, pcm.length >> 1), /it is cut; got \d+ bytes of samples, expected 2000/);
  const at = whole.indexOf('data') + 4;
  const streamed = Buffer.from(whole);
  streamed.writeUInt32LE(0xffffffff, at);
  t.deepEqual(await read('streamed.wav', streamed), [0.5, -0.5, 0.25, 0]);
  for (const value of [Number.NaN, Number.POSITIVE_INFINITY]) {
    const broken = Buffer.from(whole);
    broken.writeFloatLE(value, at + 8);
    await refused('broken.wav', broken, /sample 1 of channel 0 is (NaN|Infinity); expected a finite number/);
  }
});
