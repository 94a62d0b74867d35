// OLoRA: PEFT's numbers, the identities of the split, and what it refuses.
import test from 'ava';
import { attach, scope } from 'lorikeet';
import { qr } from 'lorikeet/linalg';
import { cast, matmul, mul, narrow, normal, packQuantized, quantizeNf4, sub, tensor } from 'lorikeet/ops';
import { olora } from '#dist/inits/olora.js';
import { apart, largest, unorthogonal } from '../helpers/matrices.js';
import { digitsLayer, goldenScales, Layers, sameAsPeft, startLayers, wholeOf } from '../helpers/started.js';
import { TinyNetwork } from '../helpers/tiny-network.js';

for (const [name, alpha] of goldenScales) test(`PEFT's factors and rest: ${name}`, (t) => sameAsPeft(t, 'olora', name, alpha));

for (const options of [{ alpha: 8 }, { alpha: 20 }, { alpha: 8, rsLora: true }]) {
  test(`B is orthonormal, A triangular, and with the rest they are the weight: ${JSON.stringify(options)}`, async (t) => {
    await scope(async () => {
      const weight = await digitsLayer();
      const { layers, set } = await startLayers({ fc: weight }, { rank: 8, init: 'olora', ...options });
      const { a, b } = layers.fc;
      t.true((await unorthogonal(b)) < 1e-6);
      for (let row = 1; row < 8; row++) t.is(await largest(narrow(narrow(a, 0, row, 1), 1, 0, row)), 0);
      t.true((await apart(wholeOf(layers.fc), cast(weight, 'f64'))) < 1e-6 * (await largest(weight)));
      const whole = qr(cast(weight, 'f64'));
      const part = matmul(narrow(whole.q, 1, 0, 8), narrow(whole.r, 0, 0, 8));
      t.true((await apart(matmul(cast(b, 'f64'), cast(a, 'f64')), part)) < 1e-5 * (await largest(part)));
      set.dispose();
    });
  });
}

test('of a rank as large as a side nothing but rounding is left', async (t) => {
  await scope(async () => {
    const weights = { tall: normal([12, 5], { seed: 1 }), wide: normal([5, 12], { seed: 2 }) };
    const { layers, set } = await startLayers(weights, { rank: 5, init: 'olora' });
    for (const { base } of Object.values(layers)) t.true((await largest(base.unpack())) < 1e-5);
    set.dispose();
  });
});

test('a weight of lower rank than the pair is split all the same', async (t) => {
  await scope(async () => {
    const weight = matmul(normal([10, 2], { seed: 1 }), normal([2, 14], { seed: 2 }));
    const { layers, set } = await startLayers({ fc: weight }, { rank: 4, init: 'olora' });
    t.true((await unorthogonal(layers.fc.b)) < 1e-6);
    t.true((await apart(wholeOf(layers.fc), cast(weight, 'f64'))) < 1e-6 * (await largest(weight)));
    set.dispose();
  });
});

test('the rest in few bits is that of the pair', async (t) => {
  await scope(async () => {
    const weight = await digitsLayer();
    const { layers, set } = await startLayers({ fc: weight }, { rank: 8, alpha: 20, init: { type: 'olora', quantize: 'nf4' } });
    const { a, b, base, scale } = layers.fc;
    using expected = packQuantized(quantizeNf4(sub(weight, mul(matmul(b, a), scale))));
    t.is(base.quantization, 'nf4');
    t.is(await apart(base.unpack(), expected.unpack()), 0);
    set.dispose();
  });
});

test('refused: options, ranks, layers and weights', async (t) => {
  const network = new TinyNetwork();
  const to = (target: string, init: object, rank = 2): Promise<unknown> =>
    attach(network, { type: 'lora', rank, targets: [target], init: { type: 'olora', ...init } });
  await t.throwsAsync(async () => to('q_proj', { quantize: 4 }), {
    code: 'config',
    message: 'olora: quantize must be null or one of nf4, int8; got 4',
  });
  await t.throwsAsync(async () => to('q_proj', { niter: 4 }), { code: 'config', message: /init "olora" has no option "niter"/ });
  await t.throwsAsync(to('q_proj', {}, 13), { code: 'config', message: /expected at most 12/ });
  await t.throwsAsync(to('embed', {}), { code: 'config', message: /init "olora" starts linear layers/ });
  network.q_proj.assign('weight', packQuantized(quantizeNf4(normal([24, 12], { seed: 1 }))));
  await t.throwsAsync(to('q_proj', {}), { code: 'adapter', message: /"q_proj" is stored as nf4/ });
  network.dispose();
});

test('refused: weights that are not finite, in and behind the columns that are decomposed', async (t) => {
  await scope(async () => {
    for (const column of [0, 5]) {
      const rows = Array.from({ length: 8 }, (_, i) =>
        Array.from({ length: 6 }, (_, j) => (i === 3 && j === column ? Number.NaN : i - j * j)),
      );
      for (const quantize of [null, 'int8'] as const) {
        const network = new Layers({ fc: tensor(rows) });
        await t.throwsAsync(attach(network, { type: 'lora', rank: 2, targets: ['fc'], init: { type: 'olora', quantize } }), {
          code: 'non-finite',
          message: /^olora: "fc"/,
        });
        network.dispose();
      }
    }
  });
});

test('PEFT spells it olora', (t) => {
  const { read, write, repeatable } = olora.peft;
  t.deepEqual(write(), { init_lora_weights: 'olora' });
  t.deepEqual(read('olora'), {});
  t.is(read('pissa'), undefined);
  t.true(repeatable({ quantize: null }));
  t.false(repeatable({ quantize: 'nf4' }));
});
