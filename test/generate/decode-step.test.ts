import test from 'ava';
import { attach, loadModel, type Model, memory, profile, scope } from 'lorikeet';
import { reshape, tensor } from 'lorikeet/ops';
import { DecodeStep } from '#dist/generate/decode-step.js';
import { noGrad } from '#dist/scope.js';
import { goldenModel } from '../helpers/folders.js';
import { numbers } from '../helpers/numbers.js';
import { perturb } from '../helpers/perturb.js';
import { settledTensors } from '../helpers/settled-bytes.js';

const prompts = [
  [4, 8, 15, 16],
  [23, 42],
];
const tokens = [
  [1, 2],
  [3, 4],
  [5, 6],
  [7, 8],
];

/** Logits after each of `tokens`: through a DecodeStep, or with a plain pass for each. */
async function logitsOf(model: Model, launched: boolean): Promise<number[][]> {
  return scope(async () => {
    const cache = model.cache(prompts.length, 16);
    const options = { training: false, cache };
    noGrad(() => model.forward(prompts, options));
    const step = new DecodeStep(model, cache, options);
    const all: number[][] = [];
    for (const row of tokens) {
      const logits = noGrad(() => {
        if (launched) return step.logits(tensor(BigInt64Array.from(row, BigInt)));
        const hidden = model.forward(
          row.map((id) => [id]),
          options,
        );
        return model.head(reshape(hidden, [row.length, hidden.shape[2] ?? 0]), options);
      });
      all.push(await numbers(logits));
    }
    step.dispose();
    cache.dispose();
    return all;
  });
}

for (const name of ['llama-gqa-tied', 'mistral-sliding', 'qwen3-head-dim', 'llama-rope-dynamic']) {
  test.serial(`${name}: launched passes have the bits of plain ones`, async (t) => {
    using model = await loadModel(goldenModel(name));
    t.deepEqual(await logitsOf(model, true), await logitsOf(model, false));
  });
}

test.serial('with an adapter too, and nothing is left behind', async (t) => {
  using model = await loadModel(goldenModel('llama-gqa-tied'));
  const bare = await logitsOf(model, false);
  perturb(await attach(model, { type: 'lora', rank: 3, alpha: 6, targets: 'all-linear' }));
  const before = await settledTensors();
  const adapted = await logitsOf(model, true);
  t.deepEqual(adapted, await logitsOf(model, false));
  t.notDeepEqual(adapted, bare);
  t.is(memory().tensors, before);
});

test.serial('passes after the first are one op', async (t) => {
  using model = await loadModel(goldenModel('llama-gqa-tied'));
  const { ops } = await profile(() => logitsOf(model, true));
  t.is(ops.filter(({ name }) => name === 'launch').length, tokens.length - 1);
});
