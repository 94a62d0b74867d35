// Run: npx tsc -p tsconfig.test.json && node out/examples/mosa.js
// MoSA on a small language model: four experts that share one adapter's entries, saved as one plain adapter. Expected: a lower loss, and the same from the file.
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { attach, loadAdapter, loadModel, scope } from 'lorikeet';
import { AdamW } from 'lorikeet/optim';

const model = await loadModel('examples/stories260k');
const ids = [
  'The night was still, and nothing moved upon the moor but wind.',
  'Stand and deliver, sir, or be gone before the break of day!',
].map((text) => model.tokenizer.encode(text));

const tuned = await attach(model, { type: 'mosa', style: 'adaptformer', bottleneckSize: 16, scale: 1, experts: 4, merge: 'mean' });
const lossNow = (): Promise<number> => scope(() => tuned.loss({ ids }).item());
const optimizer = new AdamW(tuned.parameters(), { learningRate: 1e-2, weightDecay: 0.01 });
const start = await lossNow();
for (let step = 0; step < 40; step++) {
  await scope(() => {
    const loss = tuned.loss({ ids, training: true });
    loss.backward();
    optimizer.step();
    optimizer.zeroGrad();
    return loss.item();
  });
}
const trained = await lossNow();
console.log(`loss ${start.toFixed(3)} at the start, ${trained.toFixed(3)} after 40 steps, experts merged`);
if (!(trained < start)) throw new Error('mosa: training went wrong');

const folder = join(mkdtempSync(join(tmpdir(), 'mosa-')), 'adapter');
await tuned.save(folder);
const size = tuned.parameters().reduce((sum, { size: own }) => sum + own, 0);
tuned.dispose();
const plain = await loadAdapter(model, folder);
const merged = plain.parameters().reduce((sum, { size: own }) => sum + own, 0);
const again = await scope(() => plain.loss({ ids }).item());
console.log(`${size} numbers in training, ${merged} in the file; loss ${again.toFixed(3)}`);
if (again !== trained) throw new Error('mosa: the file computes something else');
optimizer.dispose();
plain.dispose();
model.dispose();
