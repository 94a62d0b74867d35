// PiSSA: PEFT's numbers, the identities of the split, quantised rests, and what it refuses.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { attach, scope, type Tensor } from 'lorikeet';
import { svd } from 'lorikeet/linalg';
import { cast, matmul, mul, normal, packQuantized, quantizeInt8, quantizeNf4, sub, tensor, transpose } from 'lorikeet/ops';
import { pissa } from '#dist/inits/pissa.js';
import { loadTiny, temporaryFolder } from '../helpers/adapters.js';
import { apart, largest } from '../helpers/matrices.js';
import { numbers } from '../helpers/numbers.js';
import {
  digitsLayer,
  frobeniusNorm,
  fromDiagonal,
  goldenScales,
  Layers,
  nuclearNorm,
  type Started,
  sameAsPeft,
  startLayers,
  wholeOf,
} from '../helpers/started.js';
import { TinyNetwork } from '../helpers/tiny-network.js';

for (const [name, alpha] of goldenScales) test(`PEFT's factors and rest: ${name}`, (t) => sameAsPeft(t, 'pissa', name, alpha));

const splitError = async (started: Started, weight: Tensor): Promise<number> =>
  (await apart(wholeOf(started), cast(weight, 'f64'))) / (await largest(weight));

for (const [what, options] of [
  ['alpha = R', { alpha: 8 }],
  ['alpha = 2 R', { alpha: 16 }],
  ['rsLora', { alpha: 8, rsLora: true }],
] as const) {
  test(`the pair is the best of its rank, and with the rest the weight: ${what}`, async (t) => {
    await scope(async () => {
      const weight = await digitsLayer();
      const { layers, set } = await startLayers({ fc: weight }, { rank: 8, init: 'pissa', ...options });
      const { a, b, base, scale } = layers.fc;
      t.true((await splitError(layers.fc, weight)) < 1e-6);
      const values = await numbers(svd(weight).s);
      const optimum = Math.hypot(...values.slice(8));
      t.true(Math.abs((await frobeniusNorm(base.unpack())) / optimum - 1) < 1e-4);
      const shared = values.slice(0, 8).map((value) => value / scale);
      t.true((await fromDiagonal(a, shared)) < 1e-4 * (shared[0] ?? 0));
      t.true((await fromDiagonal(transpose(b), shared)) < 1e-4 * (shared[0] ?? 0));
      set.dispose();
    });
  });
}

for (const [init, most] of [
  ['pissa_niter_0', 0.3],
  ['pissa_niter_4', 1e-2],
  ['pissa_niter_16', 2e-3],
  ['pissa_fast', 1e-3],
] as const) {
  test(`${init} splits exactly, near the best`, async (t) => {
    await scope(async () => {
      const weight = await digitsLayer();
      const optimum = Math.hypot(...(await numbers(svd(weight).s)).slice(8));
      const { layers, set } = await startLayers({ fc: weight }, { rank: 8, init }, { seed: 3 });
      t.true((await splitError(layers.fc, weight)) < 1e-6);
      const excess = (await frobeniusNorm(layers.fc.base.unpack())) / optimum - 1;
      t.log(`rest above the best: ${excess.toExponential(1)}`);
      t.true(excess > -1e-5 && excess < most);
      set.dispose();
    });
  });
}

test('another seed gives another sketch, and the same whole', async (t) => {
  await scope(async () => {
    const weight = normal([40, 24], { seed: 1 });
    const found = await Promise.all(
      [1, 1, 2].map(async (seed) => {
        const { layers, set } = await startLayers({ fc: weight }, { rank: 6, init: { type: 'pissa', niter: 1 } }, { seed });
        t.true((await splitError(layers.fc, weight)) < 1e-6);
        const values = await numbers(layers.fc.a);
        set.dispose();
        return values;
      }),
    );
    t.deepEqual(found[0], found[1]);
    t.notDeepEqual(found[0], found[2]);
  });
});

test('of a bf16 weight only the rest is rounded', async (t) => {
  await scope(async () => {
    const weight = cast(await digitsLayer(), 'bf16');
    const { layers, set } = await startLayers({ fc: weight }, { rank: 8, init: 'pissa' });
    t.is(layers.fc.a.dtype, 'f32');
    t.is(layers.fc.base.dtype, 'bf16');
    const rest = await largest(layers.fc.base.unpack());
    t.true((await apart(wholeOf(layers.fc), cast(weight, 'f64'))) < 2 ** -8 * rest);
    set.dispose();
  });
});

test('in a network of f64 the split is exact to f64', async (t) => {
  await scope(async () => {
    const weight = normal([20, 30], { seed: 1, dtype: 'f64' });
    const { layers, set } = await startLayers({ fc: weight }, { rank: 3, init: 'pissa' });
    t.true((await splitError(layers.fc, weight)) < 1e-14);
    set.dispose();
    await t.throwsAsync(startLayers({ fc: weight }, { rank: 3, init: { type: 'pissa', quantize: 'nf4' } }), {
      code: 'config',
      message: 'pissa: quantised weights stand for f32, bf16 or f16; got "fc" in f64',
    });
  });
});

for (const alpha of [8, 20]) {
  test(`the quantised rest is that of the pair, in blocks: alpha ${alpha}`, async (t) => {
    await scope(async () => {
      const weight = await digitsLayer();
      for (const quantize of ['nf4', 'int8'] as const) {
        for (const rounds of [1, 3]) {
          const { layers, set } = await startLayers({ fc: weight }, { rank: 8, alpha, init: { type: 'pissa', quantize, rounds } });
          const { a, b, base, scale } = layers.fc;
          t.is(base.quantization, quantize);
          t.is(base.layout, 'blocks');
          const rest = sub(weight, mul(matmul(b, a), scale));
          using expected = packQuantized(quantize === 'nf4' ? quantizeNf4(rest) : quantizeInt8(rest));
          t.is(await apart(base.unpack(), expected.unpack()), 0);
          set.dispose();
        }
      }
    });
  });
}

test('a quantised rest loses less than the quantised weight, and less with more rounds', async (t) => {
  await scope(async () => {
    const weight = await digitsLayer();
    using plain = packQuantized(quantizeNf4(weight));
    const whole = await nuclearNorm(sub(weight, plain.unpack()));
    const saved = async (rank: number, init: 'pissa' | 'loftq', rounds: number): Promise<number> => {
      const options = init === 'pissa' ? ({ type: init, quantize: 'nf4', rounds } as const) : ({ type: init, rounds } as const);
      const { layers, set } = await startLayers({ fc: weight }, { rank, init: options });
      const error = await nuclearNorm(sub(cast(weight, 'f64'), wholeOf(layers.fc)));
      set.dispose();
      return 1 - error / whole;
    };
    for (const rank of [8, 32]) {
      const [one, five] = [await saved(rank, 'pissa', 1), await saved(rank, 'pissa', 5)];
      const [other, others] = [await saved(rank, 'loftq', 1), await saved(rank, 'loftq', 5)];
      const percent = (share: number): string => `${(100 * share).toFixed(0)} %`;
      t.log(`rank ${rank}: QPiSSA ${percent(one)}, ${percent(five)}; LoftQ ${percent(other)}, ${percent(others)} (1 and 5 rounds)`);
      t.true(one >= 0.25 && five > one);
      t.true(other > 0 && others > other);
      t.true(one > other && five > others);
    }
  });
});

test('the converted adapter has twice the rank, and the scale it had', async (t) => {
  for (const [rsLora, alpha] of [
    [false, 20],
    [true, 10 * Math.SQRT2],
  ] as const) {
    const model = await loadTiny();
    const tuned = await attach(model, { type: 'lora', rank: 4, alpha: 10, rsLora, init: 'pissa', rankPattern: { q_proj: 6 } });
    const folder = join(temporaryFolder(), 'adapter');
    await tuned.save(folder);
    const config = JSON.parse(readFileSync(join(folder, 'adapter_config.json'), 'utf8')) as Record<string, unknown>;
    t.is(config.r, 8);
    t.is(config.lora_alpha, alpha);
    t.deepEqual(config.rank_pattern, { q_proj: 12 });
    t.is(config.init_lora_weights, true);
    model.dispose();
  }
});

const refused: readonly (readonly [init: unknown, message: RegExp])[] = [
  ['pissa_niter_-1', /pissa: the number of power steps must be a whole number; got "pissa_niter_-1"/],
  ['pissa_niter_x', /pissa: the number of power steps must be a whole number; got "pissa_niter_x"/],
  ['pissa_niter_', /pissa: the number of power steps must be a whole number/],
  ['pissa_foo', /unknown init; got "pissa_foo"/],
  [{ type: 'pissa', niter: 1.5 }, /niter must be null or a whole number; got 1.5/],
  [{ type: 'pissa', oversample: 4 }, /oversample widens a randomised decomposition; got 4 with niter null/],
  [{ type: 'pissa', niter: 2, oversample: -1 }, /oversample must be a whole number; got -1/],
  [{ type: 'pissa', quantize: 'nf3' }, /quantize must be null or one of nf4, int8; got "nf3"/],
  [{ type: 'pissa', quantize: 'nf4', rounds: 0 }, /rounds must be a positive whole number; got 0/],
  [{ type: 'pissa', rounds: 2 }, /rounds are those of quantize; got 2 with quantize null/],
  [{ type: 'pissa', bits: 4 }, /init "pissa" has no option "bits"/],
];

for (const [init, message] of refused) {
  test(`refused: ${JSON.stringify(init)}`, async (t) => {
    const network = new TinyNetwork();
    await t.throwsAsync(async () => attach(network, { type: 'lora', rank: 2, targets: ['q_proj'], init: init as 'pissa' }), {
      code: 'config',
      message,
    });
    network.dispose();
  });
}

test('refused: ranks, layers and weights that cannot be split', async (t) => {
  const network = new TinyNetwork();
  const to = (rank: number, targets: string[]): Promise<unknown> => attach(network, { type: 'lora', rank, targets, init: 'pissa' });
  await t.throwsAsync(to(13, ['q_proj']), {
    code: 'config',
    message: /cannot give "q_proj" rank 13; its weight is \[24, 12\], expected at most 12/,
  });
  await t.throwsAsync(to(2, ['embed']), { code: 'config', message: /starts linear layers; got target "embed" \(Embedding\)/ });
  await t.throwsAsync(attach(network, { type: 'lora', rank: 2, targets: ['q_proj'], init: 'pissa', dora: true }), { code: 'config' });
  network.q_proj.assign('weight', packQuantized(quantizeNf4(normal([24, 12], { seed: 1 }))));
  await t.throwsAsync(to(2, ['q_proj']), {
    code: 'adapter',
    message: /"q_proj" is stored as nf4; initialise in floating point and quantise the rest/,
  });
  network.dispose();
});

for (const init of ['pissa', 'pissa_niter_2', { type: 'pissa', quantize: 'nf4' }] as const) {
  test(`weights that are not finite change nothing: ${JSON.stringify(init)}`, async (t) => {
    await scope(async () => {
      const good = normal([8, 6], { seed: 1 });
      const network = new Layers({
        good,
        bad: tensor(Array.from({ length: 8 }, (_, i) => Array.from({ length: 6 }, () => (i === 5 ? Number.NaN : i)))),
      });
      await t.throwsAsync(attach(network, { type: 'lora', rank: 2, targets: ['good', 'bad'], init }), {
        code: 'non-finite',
        message: /pissa: "bad"/,
      });
      const [[, weight] = []] = [...network.namedParameters()];
      t.is(await apart((weight as Started['base']).unpack(), good), 0);
      network.dispose();
    });
  });
}

test.serial('dropout is warned of', async (t) => {
  const heard: string[] = [];
  const listen = (warning: Error): void => void heard.push(`${warning.name}: ${warning.message}`);
  process.on('warning', listen);
  const network = new TinyNetwork();
  for (const dropout of [0, 0.1]) {
    const set = await attach(network, { type: 'lora', rank: 2, targets: ['q_proj', 'down_proj'], init: 'pissa', dropout });
    set.dispose();
  }
  await new Promise(setImmediate);
  process.off('warning', listen);
  t.deepEqual(heard, [
    'LorikeetWarning: pissa: dropout drops parts of the weights themselves in training, so the model no longer starts as its base; got 0.1, expected 0',
  ]);
  network.dispose();
});

test('says how far it is, and stops when it is told to', async (t) => {
  await scope(async () => {
    const weights = { one: normal([30, 20], { seed: 1 }), two: normal([20, 30], { seed: 2 }), three: normal([25, 25], { seed: 3 }) };
    const network = new Layers(weights);
    const abort = new AbortController();
    const seen: string[] = [];
    const attaching = attach(
      network,
      { type: 'lora', rank: 2, targets: Object.keys(weights), init: 'pissa' },
      {
        signal: abort.signal,
        onProgress: ({ done, total, path }) => {
          seen.push(`${done}/${total} ${path}`);
          if (done === 2) abort.abort();
        },
      },
    );
    await t.throwsAsync(attaching, { code: 'cancelled' });
    t.deepEqual(seen, ['1/3 one', '2/3 two']);
    const found = Object.fromEntries(network.namedParameters());
    for (const [name, weight] of Object.entries(weights))
      t.is(await apart((found[`${name}.weight`] as Started['base']).unpack(), weight), 0);
    network.dispose();
  });
});

test('PEFT spells it with its power steps, and finds it again only without sketch and rounding', (t) => {
  const { read, write, repeatable } = pissa.peft;
  const all = pissa.defaults;
  t.deepEqual(write(all), { init_lora_weights: 'pissa' });
  t.deepEqual(write({ ...all, niter: 16 }), { init_lora_weights: 'pissa_niter_16' });
  t.deepEqual(read('pissa_niter_16'), { niter: 16 });
  t.deepEqual(read('pissa'), {});
  t.is(read('olora'), undefined);
  t.deepEqual(
    [all, { ...all, niter: 16 }, { ...all, quantize: 'nf4' as const }].map((options) => repeatable(options)),
    [true, false, false],
  );
});
