import test from 'ava';
import { type LoadOptions, loadModel, memory, sample, scope } from 'lorikeet';
import { goldenModel, goldenModels, readJson } from '../helpers/folders.js';
import { near, numbers } from '../helpers/numbers.js';

interface Reference {
  noise: number;
  sequences: { ids: number[]; logits: number[][]; nll: number; nllStored?: number }[];
  greedy: { prompt: number[]; new: number[]; margin: number };
}

// Recorded in f32; two recordings of the same model in f32 and f64 differ by up to 1e-5.
const tolerance = 1e-4;

for (const name of goldenModels()) {
  test(`${name}: logits, loss and greedy tokens`, async (t) => {
    const reference = readJson<Reference>(goldenModel(name), 'reference.json');
    const model = await loadModel(goldenModel(name), { dtype: 'f32' });
    for (const { ids, logits, nll } of reference.sequences) {
      const [got, loss] = await scope(() => Promise.all([numbers(model.logits([ids])), model.loss({ ids: [ids] }).item()]));
      near(t, got, logits.flat(), tolerance, `logits of ${ids.length} tokens`);
      near(t, [loss], [nll], tolerance, 'loss');
    }
    const { prompt, new: expected } = reference.greedy;
    const { ids, logProbabilities, finishReason } = await sample(model, prompt, { maxNewTokens: expected.length, endTokens: [] });
    t.deepEqual(ids, expected);
    t.is(logProbabilities.length, expected.length);
    t.is(finishReason, 'length');
    model.dispose();
  });
}

test('a bf16 model is computed in bf16 when no dtype is asked for', async (t) => {
  const options: LoadOptions = {};
  using model = await loadModel(goldenModel('llama-bf16'), options);
  t.is(model.dtype, 'bf16');
  const { sequences } = readJson<Reference>(goldenModel('llama-bf16'), 'reference.json');
  for (const { ids, nll } of sequences) {
    const loss = await scope(() => model.loss({ ids: [ids] }).item());
    // Random weights make steep logits: transformers in bf16 is up to 2.2e-2 away from its own f32.
    near(t, [loss], [nll], 4e-2, 'loss');
  }
});

test.after.always('no tensor is left', (t) => {
  t.is(memory().tensors, 0);
});
