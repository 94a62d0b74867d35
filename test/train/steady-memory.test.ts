import test from 'ava';
import { memory, scope, synchronize } from 'lorikeet';
import { AdamW, clipScale, gradientNorm } from 'lorikeet/optim';
import { attach, loadModel } from '#dist/index.js';
import { settledBytes } from '../helpers/settled-bytes.js';

test.serial('after warm-up a step takes no memory from the system and leaves no tensor behind', async (t) => {
  const model = await loadModel('examples/stories260k', { dtype: 'bf16' });
  const tuned = await attach(model, { type: 'lora', rank: 4, targets: 'all-linear' }, { seed: 1 });
  const parameters = tuned.parameters();
  const optimizer = new AdamW(parameters, { learningRate: 1e-4 });
  const ids = [0, 1].map((row) => Array.from({ length: 96 }, (_, i) => 3 + ((i * 7 + row) % 500)));
  const step = () =>
    scope(async () => {
      const loss = model.loss({ ids });
      loss.backward();
      optimizer.step({ clipScale: clipScale(gradientNorm(parameters), 1) });
      optimizer.zeroGrad();
      await loss.item();
    });
  const use = async () => {
    await synchronize();
    const { bytes, cachedBytes, tensors } = memory();
    return { mapped: bytes + cachedBytes, tensors };
  };
  await settledBytes();
  for (let i = 0; i < 3; i++) await step();
  const warm = await use();
  for (let i = 0; i < 8; i++) await step();
  t.deepEqual(await use(), warm);
  optimizer.dispose();
  tuned.dispose();
  model.dispose();
});
