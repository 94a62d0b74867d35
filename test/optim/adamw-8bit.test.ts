import { resolve } from 'node:path';
import test from 'ava';
import { memory, synchronize, type Tensor } from 'lorikeet';
import { loadSafetensors } from 'lorikeet/io';
import { full, normal, ones, tensor } from 'lorikeet/ops';
import { AdamW, AdamW8bit, dynamicMap } from 'lorikeet/optim';
import { atLevel, machineLevels, withThreads } from '../helpers/engine.js';
import { settledBytes } from '../helpers/settled-bytes.js';
import { sameBits, worstError } from '../helpers/values.js';

/** What bitsandbytes computed, see scripts/golden/optimizers_8bit.py. */
const golden = await loadSafetensors(resolve('test/golden/optimizers-8bit.safetensors'));
const numbers = (x: Tensor): Float32Array => x.dataSync() as Float32Array;
const goldenOf = (name: string): Float32Array => numbers(golden.get(name) as Tensor);

/** The numbers of the script: any language makes the same. */
const values = (count: number, salt: number): number[] =>
  Array.from({ length: count }, (_, i) => (((i * 7919 + salt * 104729) % 20011) / 20011 - 0.5) * 10 ** ((Math.floor(i / 256) % 4) - 2));

const sizes = { long: 5000, exact: 4096, short: 300 };

function trained(): { parameters: Record<string, Tensor>; optimizer: AdamW8bit } {
  const parameters = Object.fromEntries(Object.entries(sizes).map(([name, size]) => [name, tensor(values(size, 1)).setRequiresGrad(true)]));
  const options = { learningRate: 1e-2, betas: [0.9, 0.99], eps: 1e-8, weightDecay: 0.1 } as const;
  const optimizer = new AdamW8bit(Object.values(parameters), options);
  for (let step = 0; step < 6; step++) {
    for (const x of Object.values(parameters)) x.setGrad(tensor(values(x.size, 10 + step)));
    optimizer.step();
  }
  return { parameters, optimizer };
}

const differing = (a: ArrayLike<number>, b: ArrayLike<number>): number => Array.from(a).filter((value, i) => value !== b[i]).length;

test('the tables are those of bitsandbytes, bit for bit', (t) => {
  t.true(sameBits(numbers(dynamicMap(true)), goldenOf('map.signed')));
  t.true(sameBits(numbers(dynamicMap(false)), goldenOf('map.unsigned')));
});

test('it follows bitsandbytes, at every level', (t) => {
  for (const level of machineLevels) {
    atLevel(level, () => {
      const { parameters, optimizer } = trained();
      const { tensors } = optimizer.state();
      for (const [i, name] of Object.keys(sizes).entries()) {
        const size = sizes[name as keyof typeof sizes];
        const got = numbers(parameters[name] as Tensor);
        const expected = goldenOf(`${name}.parameter`);
        if (name === 'short') {
          t.true(worstError(got, expected) < 1e-7);
          t.is(tensors[`${i}.firstMoment`]?.dtype, 'f32');
          continue;
        }
        // A value on the border of two codes may fall to either side by the last bit of a sum; from then on its element goes its own way.
        const near = Array.from(got).filter((value, k) => Math.abs(value - (expected[k] as number)) < 1e-6).length;
        t.true(near >= 0.98 * size, `${level}: ${near} of ${size} parameters of "${name}" agree`);
        t.true(worstError(got, expected) < 1e-3);
        for (const [ours, theirs] of [
          ['firstMoment', 'state1'],
          ['secondMoment', 'state2'],
        ]) {
          const codes = numbers(tensors[`${i}.${ours}`] as Tensor);
          t.true(differing(codes, goldenOf(`${name}.${theirs}`)) <= 0.01 * size, `${level}: ${ours} of "${name}"`);
        }
        t.true(worstError(numbers(tensors[`${i}.firstScale`] as Tensor), goldenOf(`${name}.absmax1`)) < 1e-6);
        t.true(worstError(numbers(tensors[`${i}.secondScale`] as Tensor), goldenOf(`${name}.absmax2`)) < 1e-6);
      }
    });
  }
});

test.serial('its states take 2 bytes a parameter and two scales for each 256', async (t) => {
  const size = 1 << 18;
  const bytesOf = async (Kind: typeof AdamW | typeof AdamW8bit): Promise<number> => {
    const x = ones([size]).setRequiresGrad(true);
    x.setGrad(ones([size]));
    const optimizer = new Kind([x]);
    const before = await settledBytes();
    optimizer.step();
    await synchronize();
    const bytes = memory().bytes - before;
    optimizer.dispose();
    x.dispose();
    return bytes;
  };
  t.is(await bytesOf(AdamW), 8 * size);
  t.is(await bytesOf(AdamW8bit), 2 * size + 2 * 4 * (size / 256));
});

test('bits do not depend on the number of threads', (t) => {
  const run = (threads: number): Float32Array[] =>
    withThreads(threads, () => {
      const parameters = [[50_001], [3], [257, 130], [0]].map((shape, i) => normal(shape, { seed: i }).setRequiresGrad(true));
      const optimizer = new AdamW8bit(parameters, { learningRate: 0.01 });
      for (let step = 0; step < 3; step++) {
        for (const [i, x] of parameters.entries()) x.setGrad(normal(x.shape, { seed: 100 + i, stream: step }));
        optimizer.step({ clipScale: full([], 0.5) });
      }
      return parameters.map(numbers);
    });
  const [one, two] = [run(1), run(2)];
  for (const [i, x] of one.entries()) t.true(sameBits(x, two[i] as Float32Array));
});

test('a block of zeros stays zero, a block of tiny values keeps them, and 16-bit parameters work', (t) => {
  for (const dtype of ['f32', 'bf16', 'f16'] as const) {
    const x = ones([4096], { dtype }).setRequiresGrad(true);
    const optimizer = new AdamW8bit([x], { learningRate: 0.125, weightDecay: 0 });
    x.setGrad(
      tensor(
        Array.from({ length: 4096 }, (_, i) => (i < 256 ? 0 : i < 512 ? -1 : 1)),
        { dtype },
      ),
    );
    optimizer.step();
    t.deepEqual([...new Set(numbers(x).slice(0, 256))], [1]);
    t.deepEqual([...new Set(numbers(x).slice(256, 512))], [1.125]);
    t.deepEqual([...new Set(numbers(x).slice(512))], [0.875]);
    x.setGrad(full([4096], 0, { dtype }));
    optimizer.step();
    t.true(
      numbers(x)
        .slice(0, 256)
        .every((value) => value === 1),
      'zero moments move nothing',
    );
  }
  const x = ones([4096]).setRequiresGrad(true);
  const optimizer = new AdamW8bit([x], { learningRate: 0.1 });
  x.setGrad(full([4096], 1e-41));
  optimizer.step();
  t.true(numbers(x).every(Number.isFinite));
});

test('errors', (t) => {
  const x = ones([4096]).setRequiresGrad(true);
  t.throws(() => new AdamW8bit([x], { eps: -1 }), { message: /AdamW8bit: eps of group 0 is out of range; got -1/ });
  const optimizer = new AdamW8bit([x]);
  x.setGrad(ones([4096]));
  optimizer.step();
  const state = optimizer.state();
  t.throws(() => optimizer.loadState({ ...state, tensors: { ...state.tensors, '0.firstMoment': ones([4096]) } }), {
    message: /adamw-8bit: "0\.firstMoment" is of another kind; got f32 \[4096\], expected u8 \[4096\]/,
  });
});
