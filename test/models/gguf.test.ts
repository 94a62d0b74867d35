import { join } from 'node:path';
import test from 'ava';
import { loadModel, memory, sample, scope } from 'lorikeet';
import { goldenFolder, readJson } from '../helpers/folders.js';
import { near, numbers } from '../helpers/numbers.js';

interface Reference {
  sequences: { ids: number[]; logits: number[][] }[];
  greedy: { prompt: number[]; new: number[] };
}

for (const name of ['tiny-llama', 'tiny-qwen2']) {
  test(`${name}.gguf: logits and greedy tokens are those of the same model in transformers`, async (t) => {
    const { sequences, greedy } = readJson<Reference>(goldenFolder, 'gguf', `${name}.json`);
    using model = await loadModel(join(goldenFolder, 'gguf', `${name}.gguf`));
    t.is(model.dtype, 'f32');
    for (const { ids, logits } of sequences) {
      near(t, await scope(() => numbers(model.logits([ids]))), logits.flat(), 1e-4, `logits of ${ids.length} tokens`);
    }
    const { ids } = await sample(model, greedy.prompt, { maxNewTokens: greedy.new.length, endTokens: [] });
    t.deepEqual(ids, greedy.new);
  });
}

test.after.always('no tensor is left', (t) => {
  t.is(memory().tensors, 0);
});
