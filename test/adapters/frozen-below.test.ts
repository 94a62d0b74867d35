import test from 'ava';
import { profile, scope } from 'lorikeet';
import { attach, loadModel } from '#dist/index.js';

test('nothing runs backward below the first layer that has an adapter', async (t) => {
  const model = await loadModel('examples/stories260k');
  const last = model.network.shape.layers - 1;
  const tuned = await attach(model, { type: 'lora', rank: 4, targets: [`model.layers.${last}.mlp.down_proj`] }, { seed: 1 });
  const ids = [Array.from({ length: 16 }, (_, i) => 3 + i)];
  const { ops } = await profile(() =>
    scope(async () => {
      const loss = model.loss({ ids, training: true });
      loss.backward();
      await loss.item();
    }),
  );
  const backward = ops.filter((op) => op.backward).map(({ name }) => name);
  // The loss, the last norm, and the layer itself: no attention, no gate, no other layer.
  for (const name of ['attention backward', 'swiGlu backward', 'rope backward']) t.false(backward.includes(name), name);
  t.is(backward.filter((name) => name === 'rmsNorm backward').length, 1);
  t.is(backward.filter((name) => name === 'sumOverRows').length, 2);
  tuned.dispose();
  model.dispose();
});
