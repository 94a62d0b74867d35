// LoftQ: PEFT's numbers, what its rounds find, and what it refuses.
import test from 'ava';
import { attach, scope, type Tensor } from 'lorikeet';
import { svd } from 'lorikeet/linalg';
import { cast, matmul, mul, normal, packQuantized, quantizeInt8, quantizeNf4, sub, transpose } from 'lorikeet/ops';
import { loftq } from '#dist/inits/loftq.js';
import { apart, largest } from '../helpers/matrices.js';
import { numbers } from '../helpers/numbers.js';
import {
  apartUpToSigns,
  digitsLayer,
  frobeniusNorm,
  goldenInit,
  goldenLayers,
  goldenWeights,
  productOf,
  startLayers,
  wholeOf,
} from '../helpers/started.js';
import { TinyNetwork } from '../helpers/tiny-network.js';

for (const rounds of [1, 5]) {
  test(`PEFT's factors and weight: ${rounds} rounds`, async (t) => {
    await scope(async () => {
      const golden = await goldenInit('loftq');
      const { layers, set } = await startLayers(await goldenWeights(), { rank: 4, init: { type: 'loftq', rounds } });
      for (const layer of goldenLayers) {
        const { a, b, base } = layers[layer];
        const expected = (end: string): Tensor => golden.get(`rounds-${rounds}.${layer}.${end}`) as Tensor;
        t.is(base.quantization, 'nf4');
        t.true((await apart(base.unpack(), expected('base'))) < 1e-6 * (await largest(expected('base'))), layer);
        t.true((await apartUpToSigns(a, expected('A'))) < 1e-4, layer);
        t.true((await apartUpToSigns(transpose(b), transpose(expected('B')))) < 1e-4, layer);
      }
      set.dispose();
    });
  });
}

for (const options of [{ alpha: 8 }, { alpha: 20 }, { alpha: 8, rsLora: true }]) {
  test(`the weight in few bits, and the best pair for what that loses: ${JSON.stringify(options)}`, async (t) => {
    await scope(async () => {
      const weight = await digitsLayer();
      for (const bits of [4, 8] as const) {
        const { layers, set } = await startLayers({ fc: weight }, { rank: 8, init: { type: 'loftq', bits }, ...options });
        using expected = packQuantized(bits === 4 ? quantizeNf4(weight) : quantizeInt8(weight));
        t.is(layers.fc.base.quantization, bits === 4 ? 'nf4' : 'int8');
        t.is(await apart(layers.fc.base.unpack(), expected.unpack()), 0);
        const optimum = Math.hypot(...(await numbers(svd(sub(weight, expected.unpack())).s)).slice(8));
        t.true(Math.abs((await frobeniusNorm(sub(cast(weight, 'f64'), wholeOf(layers.fc)))) / optimum - 1) < 1e-4);
        set.dispose();
      }
    });
  });
}

test('the strength of the branch does not matter, round after round', async (t) => {
  await scope(async () => {
    const weight = await digitsLayer();
    const found = await Promise.all(
      [8, 20].map(async (alpha) => {
        const { layers, set } = await startLayers({ fc: weight }, { rank: 8, alpha, init: { type: 'loftq', rounds: 3 } });
        const parts = [cast(layers.fc.base.unpack(), 'f64'), productOf(layers.fc)];
        set.dispose();
        return parts;
      }),
    );
    const [[base, product] = [], [other, again] = []] = found;
    t.true((await frobeniusNorm(sub(base as Tensor, other as Tensor))) < 2e-2 * (await frobeniusNorm(product as Tensor)));
    t.true((await frobeniusNorm(sub(product as Tensor, again as Tensor))) < 2e-2 * (await frobeniusNorm(product as Tensor)));
  });
});

test('each round lowers the error; a randomised decomposition is nearly as good', async (t) => {
  await scope(async () => {
    const weight = await digitsLayer();
    const error = async (options: object): Promise<number> => {
      const { layers, set } = await startLayers({ fc: weight }, { rank: 16, init: { type: 'loftq', ...options } });
      const norm = await frobeniusNorm(sub(cast(weight, 'f64'), wholeOf(layers.fc)));
      set.dispose();
      return norm;
    };
    const errors = await Promise.all([1, 2, 5].map((rounds) => error({ rounds })));
    t.log('error after 1, 2 and 5 rounds', errors.map((value) => value.toFixed(4)).join(' '));
    t.true((errors[1] ?? 0) < (errors[0] ?? 0) && (errors[2] ?? 0) < (errors[1] ?? 0));
    const fast = await error({ rounds: 5, niter: 8, oversample: 16 });
    t.true(fast < 1.005 * (errors[2] ?? 0), `${fast}`);
  });
});

test('of a bf16 weight the pair fits what the blocks lose as they compute', async (t) => {
  await scope(async () => {
    const weight = cast(await digitsLayer(), 'bf16');
    const { layers, set } = await startLayers({ fc: weight }, { rank: 8, init: 'loftq' });
    const { a, b, base, scale } = layers.fc;
    t.is(base.dtype, 'bf16');
    const lost = sub(cast(weight, 'f32'), cast(base.unpack(), 'f32'));
    const optimum = Math.hypot(...(await numbers(svd(lost).s)).slice(8));
    t.true(Math.abs((await frobeniusNorm(sub(lost, mul(matmul(b, a), scale)))) / optimum - 1) < 1e-4);
    set.dispose();
  });
});

test('refused: options, ranks, layers and weights', async (t) => {
  const network = new TinyNetwork();
  const to = (target: string, init: object, rank = 2): Promise<unknown> =>
    attach(network, { type: 'lora', rank, targets: [target], init: { type: 'loftq', ...init } as { type: 'loftq' } });
  const refused: readonly (readonly [object, string])[] = [
    [{ bits: 2 }, 'loftq: bits must be 4 or 8; got 2'],
    [{ rounds: 0 }, 'loftq: rounds must be a positive whole number; got 0'],
    [{ rounds: 1.5 }, 'loftq: rounds must be a positive whole number; got 1.5'],
    [{ niter: -1 }, 'loftq: niter must be null or a whole number; got -1'],
  ];
  for (const [init, message] of refused) await t.throwsAsync(async () => to('q_proj', init), { code: 'config', message });
  await t.throwsAsync(to('q_proj', {}, 13), { code: 'config', message: /expected at most 12/ });
  await t.throwsAsync(to('embed', {}), { code: 'config', message: /init "loftq" starts linear layers/ });
  network.q_proj.assign('weight', packQuantized(quantizeNf4(normal([24, 12], { seed: 1 }))));
  await t.throwsAsync(to('q_proj', {}), { code: 'adapter', message: /"q_proj" is stored as nf4/ });
  network.dispose();
});

test('PEFT spells it loftq, with its options beside', (t) => {
  const { read, write, repeatable } = loftq.peft;
  const options = { ...loftq.defaults, bits: 8 as const, rounds: 5 };
  const file = write(options);
  t.deepEqual(file, { init_lora_weights: 'loftq', loftq_config: { loftq_bits: 8, loftq_iter: 5 } });
  t.deepEqual(read('loftq', { loftq_config: { loftq_bits: 8, loftq_iter: 5 } }), { bits: 8, rounds: 5 });
  t.deepEqual(read('loftq', {}), { bits: 4, rounds: 1 });
  t.is(read('pissa', {}), undefined);
  t.throws(() => read('loftq', { loftq_config: { loftq_bits: 3 } }), { code: 'config', message: 'loftq: bits must be 4 or 8; got 3' });
  t.throws(() => read('loftq', { loftq_config: 'much' }), { code: 'config', message: /"loftq_config" must be an object; got "much"/ });
  t.true(repeatable(options));
  t.false(repeatable({ ...options, niter: 4 }));
});
