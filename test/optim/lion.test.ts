import { resolve } from 'node:path';
import test from 'ava';
import type { Tensor } from 'lorikeet';
import { loadSafetensors } from 'lorikeet/io';
import { full, normal, ones, tensor } from 'lorikeet/ops';
import { Lion } from 'lorikeet/optim';
import { atLevel, machineLevels } from '../helpers/engine.js';
import { worstError } from '../helpers/values.js';

const numbers = (x: Tensor): Float32Array => x.dataSync() as Float32Array;

/** The numbers of scripts/golden/optimizers_8bit.py. */
const values = (count: number, salt: number): number[] =>
  Array.from({ length: count }, (_, i) => (((i * 7919 + salt * 104729) % 20011) / 20011 - 0.5) * 10 ** ((Math.floor(i / 256) % 4) - 2));

test('it follows bitsandbytes, at every level', async (t) => {
  const golden = await loadSafetensors(resolve('test/golden/optimizers-8bit.safetensors'));
  for (const level of machineLevels) {
    atLevel(level, () => {
      const x = tensor(values(300, 1)).setRequiresGrad(true);
      const optimizer = new Lion([x], { learningRate: 1e-2, betas: [0.9, 0.99], weightDecay: 0.1 });
      for (let step = 0; step < 6; step++) {
        x.setGrad(tensor(values(300, 10 + step)));
        optimizer.step();
      }
      t.true(worstError(numbers(x), numbers(golden.get('lion.short') as Tensor)) < 1e-7, level);
    });
  }
});

test('f64 parameters agree with the formulas of the paper in double', (t) => {
  const [rate, decay, b1, b2] = [0.05, 0.2, 0.8, 0.9];
  const x = normal([40], { seed: 1, dtype: 'f64' }).setRequiresGrad(true);
  let p = [...numbers(x)];
  let m = p.map(() => 0);
  const optimizer = new Lion([x], { learningRate: 2 * rate, betas: [b1, b2], weightDecay: decay });
  for (let step = 0; step < 4; step++) {
    const gradient = normal([40], { seed: 2, stream: step, dtype: 'f64' });
    const g = [...numbers(gradient)];
    x.setGrad(gradient);
    optimizer.step({ rateFactor: 0.5, clipScale: full([], 0.5) });
    const scaled = g.map((value) => 0.5 * value);
    p = p.map((value, i) => value - rate * (Math.sign(b1 * (m[i] as number) + (1 - b1) * (scaled[i] as number)) + decay * value));
    m = m.map((value, i) => b2 * value + (1 - b2) * (scaled[i] as number));
    t.true(worstError(numbers(x), p) < 1e-14);
  }
});

test('zero gradients move nothing, and one state is kept', (t) => {
  const x = ones([5]).setRequiresGrad(true);
  x.setGrad(tensor([0, 0, 1, -1, 0]));
  const optimizer = new Lion([x], { learningRate: 0.25 });
  optimizer.step();
  t.deepEqual([...numbers(x)], [1, 1, 0.75, 1.25, 1]);
  t.deepEqual(Object.keys(optimizer.state().tensors), ['0.momentum']);
  t.throws(() => new Lion([x], { betas: [0.9, 1] }), { message: /Lion: betas\[1\] of group 0 is out of range; got 1/ });
});
