// Run: npx tsc -p tsconfig.test.json && node out/examples/block-adapter.js
// Bottlenecks in parallel to the MLP of every block, and norms, on a small language model: trained, saved, loaded. Expected: a lower loss, the same from the file.
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

const tuned = await attach(model, { type: 'block-adapter', width: 8 });
const lossNow = (): Promise<number> => scope(() => tuned.loss({ ids }).item());
const optimizer = new AdamW(tuned.parameters(), { learningRate: 5e-3, betas: [0.9, 0.98], eps: 1e-6, weightDecay: 0.1 });
const start = await lossNow();
for (let step = 0; step < 20; step++) {
  await scope(() => {
    const loss = tuned.loss({ ids, training: true });
    loss.backward();
    optimizer.step();
    optimizer.zeroGrad();
    return loss.item();
  });
}
const trained = await lossNow();
console.log(`loss ${start.toFixed(3)} at the start, ${trained.toFixed(3)} after 20 steps`);
if (!(trained < start)) throw new Error('block-adapter: training went wrong');

const folder = join(mkdtempSync(join(tmpdir(), 'block-adapter-')), 'adapter');
await tuned.save(folder);
tuned.dispose();
const again = await loadAdapter(model, folder);
const loaded = await scope(() => again.loss({ ids }).item());
console.log(`loss ${loaded.toFixed(3)} from the file`);
if (loaded !== trained) throw new Error('block-adapter: the file computes something else');
optimizer.dispose();
again.dispose();
model.dispose();
