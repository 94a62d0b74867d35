import test from 'ava';
import { type DType, InvalidArgumentError, memory, scope, type Tensor } from 'lorikeet';
import { cast, full, maskIndices, normal, ones, topKMask } from 'lorikeet/ops';
import { AdamW, gradientNorm, type ParameterMask, SparseAdamW } from 'lorikeet/optim';
import { atLevel, machineLevels, withThreads } from '../helpers/engine.js';
import { settledTensors } from '../helpers/settled-bytes.js';
import { sameBits } from '../helpers/values.js';

const numbers = (x: Tensor): Float32Array => cast(x.detach(), 'f32').dataSync() as Float32Array;
const options = { learningRate: 0.05, betas: [0.8, 0.95], weightDecay: 0.1 } as const;
const kSize = 20_013;

/** Makes three steps; gradients are the same for every optimizer. */
function train(x: Tensor, optimizer: AdamW | SparseAdamW, first = 0): void {
  for (let step = first; step < first + 3; step++) {
    x.setGrad(cast(normal(x.shape, { seed: 5, stream: step }), x.dtype));
    optimizer.step({ clipScale: full([], 0.5), rateFactor: 0.9 });
  }
}

const start = (dtype: DType): Tensor => cast(normal([kSize], { seed: 1 }), dtype).setRequiresGrad(true);

function maskOf(count: number, form: 'bits' | 'indices'): ParameterMask {
  const bits = topKMask(normal([kSize], { seed: 2 }), count);
  return { mask: form === 'bits' ? bits : maskIndices(bits, kSize, count), count };
}

for (const dtype of ['f64', 'f32', 'bf16', 'f16'] as const satisfies DType[]) {
  test(`${dtype}: owned entries have the bits of AdamW, the others theirs, at every level and in both forms`, (t) => {
    for (const level of machineLevels) {
      atLevel(level, () => {
        const [dense, before] = [start(dtype), numbers(start(dtype))];
        train(dense, new AdamW([dense], options));
        const whole = numbers(dense);
        for (const form of ['bits', 'indices'] as const) {
          for (const count of [0, 1, 4_000, kSize]) {
            const owned = maskOf(count, form);
            const places = new Set(Array.from(maskOf(count, 'indices').mask.dataSync() as Int32Array));
            const x = start(dtype);
            train(x, new SparseAdamW([x], new Map([[x, owned]]), options));
            const expected = whole.map((value, i) => (places.has(i) ? value : (before[i] as number)));
            t.true(sameBits(numbers(x), expected), `${level} ${form} ${count}`);
          }
        }
      });
    }
  });
}

test('the same bits for every thread count', (t) => {
  const run = (threads: number): Float32Array =>
    withThreads(threads, () => {
      const x = start('f32');
      train(x, new SparseAdamW([x], new Map([[x, maskOf(9_000, 'bits')]]), options));
      return numbers(x);
    });
  t.true(sameBits(run(1), run(2)));
});

test('states are those of the owned entries; parameters without a mask are trained whole', (t) => {
  const [x, free] = [start('f32'), ones([30]).setRequiresGrad(true)];
  const optimizer = new SparseAdamW([x, free], new Map([[x, maskOf(100, 'indices')]]), options);
  t.is(optimizer.stateBytes, (100 + 30) * 8);
  t.is(optimizer.trainedEntries, 130);
  const reference = ones([30]).setRequiresGrad(true);
  const dense = new AdamW([reference], options);
  for (const parameter of [free, reference]) parameter.setGrad(normal([30], { seed: 9 }));
  x.setGrad(normal([kSize], { seed: 10 }));
  optimizer.step();
  dense.step();
  t.true(sameBits(numbers(free), numbers(reference)));
  const { tensors } = optimizer.state();
  t.deepEqual(Object.keys(tensors).sort(), ['0.firstMoment', '0.mask', '0.secondMoment', '1.firstMoment', '1.secondMoment']);
  t.deepEqual(tensors['0.firstMoment']?.shape, [100]);
});

test('a saved state continues exactly, and brings its masks', (t) => {
  for (const form of ['bits', 'indices'] as const) {
    const whole = start('f32');
    const first = new SparseAdamW([whole], new Map([[whole, maskOf(4_000, form)]]), options);
    train(whole, first);
    const saved = first.state();
    const again = cast(cast(whole.detach(), 'f64'), 'f32').setRequiresGrad(true);
    const other = topKMask(normal([kSize], { seed: 77 }), 50);
    const mask = form === 'bits' ? other : maskIndices(other, kSize, 50);
    const second = new SparseAdamW([again], new Map([[again, { mask, count: 50 }]]), options);
    second.loadState({ ...JSON.parse(JSON.stringify({ ...saved, tensors: {} })), tensors: saved.tensors });
    train(whole, first, 3);
    train(again, second, 3);
    t.true(sameBits(numbers(whole), numbers(again)));
    const none = new SparseAdamW([start('f32')], new Map(), options);
    t.throws(() => none.loadState(saved), { instanceOf: InvalidArgumentError, message: /the state has a mask for parameter 0/ });
  }
});

test('a state that does not fit changes nothing', (t) => {
  const [x, y] = [start('f32'), start('f32')];
  const optimizer = new SparseAdamW([x], new Map([[x, maskOf(4_000, 'bits')]]), options);
  const twin = new SparseAdamW([y], new Map([[y, maskOf(4_000, 'bits')]]), options);
  train(x, optimizer);
  train(y, twin);
  const other = start('f32');
  const foreign = new SparseAdamW([other], new Map([[other, maskOf(50, 'indices')]]), { learningRate: 9 });
  train(other, foreign);
  const state = foreign.state();
  const { '0.secondMoment': _, ...lacking } = state.tensors;
  const before = memory().tensors;
  const mask = (value: Tensor): object => ({ ...state, tensors: { ...state.tensors, '0.mask': value } });
  scope(() => {
    for (const [wrong, message] of [
      [{ ...state, tensors: lacking }, /lacks the tensor "0.secondMoment"/],
      [{ ...state, tensors: { ...state.tensors, '0.secondMoment': ones([50], { dtype: 'f64' }) } }, /"0.secondMoment" is of another kind/],
      [{ ...state, steps: [1, 2] }, /the state does not fit/],
      [{ ...state, kind: 'adamw' }, /belongs to another optimizer/],
      [mask(maskOf(49, 'indices').mask), /mask of parameter 0 does not fit it and its moments; got i32 \[49\]/],
      [mask(ones([50])), /got f32 \[50\], expected i32 \[50\] or u8 \[2502\]/],
      [mask(ones([7], { dtype: 'u8' })), /got u8 \[7\]/],
    ] as const)
      t.throws(() => optimizer.loadState(wrong as typeof state), { instanceOf: InvalidArgumentError, message });
  });
  t.is(memory().tensors, before);
  t.is(optimizer.groups[0]?.settings.learningRate, options.learningRate);
  train(x, optimizer, 3);
  train(y, twin, 3);
  t.true(sameBits(numbers(x), numbers(y)));
});

test('maskGradients leaves the gradient of owned entries alone', async (t) => {
  const x = start('f32');
  const { mask, count } = maskOf(500, 'bits');
  const optimizer = new SparseAdamW([x], new Map([[x, { mask, count }]]));
  x.setGrad(ones([kSize]));
  optimizer.maskGradients();
  t.is(await gradientNorm([x]).item(), Math.fround(Math.sqrt(500)));
});

test('a mask of no parameter is an error, a wrong count one of the first step; disposal releases everything', async (t) => {
  const x = start('f32');
  t.throws(() => new SparseAdamW([x], new Map([[ones([4]), maskOf(3, 'bits')]])), {
    message: /a mask is of no parameter; got one for a tensor \[4\]/,
  });
  const { mask } = maskOf(500, 'bits');
  const wrong = new SparseAdamW([x], new Map([[x, { mask, count: 499 }]]));
  x.setGrad(ones([kSize]));
  wrong.step();
  await t.throwsAsync(x.data(), { message: /maskedAdamwStep: the mask owns another number of entries; got 500, expected 499/ });
  const y = start('f32');
  const before = await settledTensors();
  const optimizer = new SparseAdamW([y], new Map([[y, { mask, count: 500 }]]));
  scope(() => {
    y.setGrad(ones([kSize]));
    optimizer.step();
  });
  optimizer.dispose();
  t.is(memory().tensors, before);
});
