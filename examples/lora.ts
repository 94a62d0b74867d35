// Run: npx tsc -p tsconfig.test.json && node out/examples/lora.js
// Two LoRA adapters of different rank learn two texts in the rows of one batch. Expected: losses below 4, and the bits each gets when it is trained alone.
import { attach, loadModel, scope, type TunedModel } from 'lorikeet';
import type { RowAdapters } from 'lorikeet/nn';
import { AdamW } from 'lorikeet/optim';

const texts = {
  quiet: 'The night was still, and nothing moved upon the moor but wind.',
  loud: 'HARK! WHO GOES THERE? STAND AND DELIVER, OR BE GONE, SIR!',
} as const;
type Name = keyof typeof texts;

const model = await loadModel('examples/stories260k');

/** Fresh adapters with the same starts every time. */
async function adapters(): Promise<TunedModel> {
  await attach(model, { type: 'lora', rank: 4, targets: 'all-linear' }, { name: 'quiet', seed: 1 });
  return attach(model, { type: 'lora', rank: 8, rsLora: true, targets: ['q_proj', 'v_proj', 'down_proj'] }, { name: 'loud', seed: 2 });
}

/** Trains the named adapters, each on a row of its own; returns their parameters and the loss per token of the last batch. */
async function run(names: readonly Name[]): Promise<{ parameters: Map<Name, Float32Array[]>; loss: number }> {
  const tuned = await adapters();
  const optimizer = new AdamW(tuned.parameters(names), { learningRate: 5e-3, weightDecay: 0 });
  const ids = names.map((name) => model.tokenizer.encode(texts[name]));
  const rows: RowAdapters = names.map((name) => [name]);
  const predicted = ids.reduce((total, row) => total + row.length - 1, 0);
  let loss = 0;
  for (let step = 0; step < 30; step++) {
    loss = await scope(async () => {
      const total = tuned.loss({ ids, rows, training: true, reduction: 'sum' });
      total.backward();
      optimizer.step();
      optimizer.zeroGrad();
      return (await total.item()) / predicted;
    });
  }
  const parameters = new Map<Name, Float32Array[]>();
  for (const name of names)
    parameters.set(name, (await Promise.all(tuned.parameters([name]).map((value) => value.data()))) as Float32Array[]);
  optimizer.dispose();
  tuned.dispose();
  return { parameters, loss };
}

const together = await run(['quiet', 'loud']);
console.log(`both in one batch: ${together.loss.toFixed(3)} nats a token`);
for (const name of ['quiet', 'loud'] as const) {
  const alone = await run([name]);
  const mine = together.parameters.get(name) ?? [];
  const same = alone.parameters
    .get(name)
    ?.every((values, i) => Buffer.from(values.buffer).equals(Buffer.from((mine[i] as Float32Array).buffer)));
  console.log(`${name} alone: ${alone.loss.toFixed(3)} nats a token; same bits as in the shared batch: ${same}`);
  if (same !== true || !(alone.loss < 4)) throw new Error('lora: the adapter depends on the other rows, or did not learn');
}
model.dispose();
