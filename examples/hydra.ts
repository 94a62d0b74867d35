// Run: npx tsc -p tsconfig.test.json && node out/examples/hydra.js
// Hydra on a small language model: trained, merged into the weights, and written as plain LoRA. Expected: a lower loss, the same after merging to 1e-5.
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

const tuned = await attach(model, { type: 'hydra', rankParallel: 2, rankSequential: 2 });
const lossNow = (): Promise<number> => scope(() => tuned.loss({ ids }).item());
const optimizer = new AdamW(tuned.parameters(), { learningRate: 1e-2, weightDecay: 0 });
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
await tuned.merge();
const merged = await lossNow();
await tuned.unmerge();
console.log(`loss ${start.toFixed(3)} at the start, ${trained.toFixed(3)} after 20 steps, ${merged.toFixed(3)} merged`);
if (!(trained < start) || Math.abs(merged - trained) > 1e-4) throw new Error('hydra: training or merging went wrong');

const folder = join(mkdtempSync(join(tmpdir(), 'hydra-')), 'lora');
await tuned.save(folder, { form: 'lora' });
tuned.dispose();
const plain = await loadAdapter(model, folder);
console.log(`as plain LoRA of rank ${(plain.adapters.get('default').config as unknown as { rank: number }).rank}:`);
const again = await scope(() => plain.loss({ ids }).item());
console.log(`loss ${again.toFixed(3)}`);
if (Math.abs(again - trained) > 1e-4) throw new Error('hydra: the plain form computes something else');
optimizer.dispose();
plain.dispose();
model.dispose();
