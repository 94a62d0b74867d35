// Run: npx tsc -p tsconfig.test.json && node out/examples/poly.js
// Three ways of speaking as three tasks of one adapter; then a fourth from the inventory, by its router alone. Expected: each task is best at its own text.
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { adapterGroups, attach, loadModel, routing, scope, type TunedModel } from 'lorikeet';
import { AdamW } from 'lorikeet/optim';

const model = await loadModel('examples/stories260k');
const texts = [
  'The night was still, and nothing moved upon the moor but wind.',
  'Stand and deliver, sir, or be gone before the break of day!',
  'Add two eggs, a cup of flour and a little salt, and stir.',
];
const rows = texts.map((text) => model.tokenizer.encode(text));
const targets = 'all-linear';

async function run(tuned: TunedModel, ids: number[][], tasks: number[]): Promise<number> {
  const optimizer = new AdamW(adapterGroups(tuned, { learningRate: 1e-2 }));
  let last = Number.NaN;
  for (let step = 0; step < 60; step++) {
    last = await scope(() => {
      const loss = tuned.loss({ ids, tasks, training: true });
      loss.backward();
      optimizer.step();
      optimizer.zeroGrad();
      return loss.item();
    });
  }
  optimizer.dispose();
  return last;
}

const tuned = await attach(model, { type: 'poly', tasks: 3, skills: 4, splits: 4, rank: 2, gates: 'sigmoid', targets });
await run(tuned, rows, [0, 1, 2]);
for (const [row, ids] of rows.entries()) {
  const losses = await Promise.all([0, 1, 2].map((task) => scope(() => tuned.loss({ ids: [ids], tasks: [task] }).item())));
  console.log(`text ${row}: loss by task ${losses.map((loss) => loss.toFixed(3)).join(', ')}`);
  if (losses.indexOf(Math.min(...losses)) !== row) throw new Error(`poly: text ${row} is not best told by its own task`);
}
console.log('weights of the skills in the first layer, block by block, for task 0:');
console.log(routing(tuned)[0]?.weights.map((block) => block.map((weight) => weight.toFixed(2)).join(' ')));

const inventory = join(mkdtempSync(join(tmpdir(), 'poly-')), 'inventory');
await tuned.save(inventory);
tuned.dispose();
const fresh = await attach(model, { type: 'poly', inventory, finetune: 'z', gates: 'sigmoid', targets });
const count = fresh.table().reduce((sum, { parameters }) => sum + parameters, 0);
const ids = [model.tokenizer.encode('Add two onions and a cup of milk, and stir.')];
const before = await scope(() => fresh.loss({ ids }).item());
await run(fresh, ids, [0]);
const after = await scope(() => fresh.loss({ ids }).item());
console.log(`a new task by ${count} numbers of the router: loss ${before.toFixed(3)} before, ${after.toFixed(3)} after`);
if (!(after < before)) throw new Error('poly: the router learnt nothing');
fresh.dispose();
model.dispose();
