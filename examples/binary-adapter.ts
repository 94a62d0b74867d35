// Run: npx tsc -p tsconfig.test.json && node out/examples/binary-adapter.js
// An adapter of one bit a weight on a small language model: trained, saved as codes, loaded again. Expected: a lower loss, the same from the codes, which take a tenth of f32.
import { mkdtempSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { attach, loadAdapter, loadModel, scope, type TunedModel } from 'lorikeet';
import { AdamW } from 'lorikeet/optim';

const model = await loadModel('examples/stories260k');
const ids = [
  'The night was still, and nothing moved upon the moor but wind.',
  'Stand and deliver, sir, or be gone before the break of day!',
].map((text) => model.tokenizer.encode(text));
const lossOf = (tuned: TunedModel): Promise<number> => scope(() => tuned.loss({ ids }).item());

const tuned = await attach(model, { type: 'binary', bits: 1, dim: 32, scale: 1 });
const optimizer = new AdamW(tuned.parameters(), { learningRate: 5e-3, weightDecay: 1e-4 });
const start = await lossOf(tuned);
for (let step = 0; step < 30; step++) {
  await scope(() => {
    const loss = tuned.loss({ ids, training: true });
    loss.backward();
    optimizer.step();
    optimizer.zeroGrad();
    return loss.item();
  });
}
const trained = await lossOf(tuned);
console.log(`loss ${start.toFixed(3)} at the start, ${trained.toFixed(3)} after 30 steps`);

const folder = mkdtempSync(join(tmpdir(), 'binary-'));
await tuned.save(join(folder, 'codes'));
await tuned.save(join(folder, 'weights'), { form: 'native' });
const bytes = (name: string): number => statSync(join(folder, name, 'adapter_model.safetensors')).size;
console.log(`${bytes('codes')} bytes as codes, ${bytes('weights')} bytes to train on`);
optimizer.dispose();
tuned.dispose();

const loaded = await loadAdapter(model, join(folder, 'codes'));
const again = await lossOf(loaded);
console.log(`loss ${again.toFixed(3)} from the codes`);
if (!(trained < start) || again !== trained) throw new Error('binary-adapter: training, saving or loading went wrong');
loaded.dispose();
model.dispose();
