// Run: npx tsc -p tsconfig.test.json && node out/examples/lora-xs.js
// LoRA-XS from two starts: the model's own singular vectors, and LoRA-SB's estimate of the first full step. Expected: LoRA-SB ahead after 20 steps.
import { attach, loadModel, scope } from 'lorikeet';
import { AdamW } from 'lorikeet/optim';

const model = await loadModel('examples/stories260k');
const ids = [
  'The night was still, and nothing moved upon the moor but wind.',
  'Stand and deliver, sir, or be gone before the break of day!',
].map((text) => model.tokenizer.encode(text));
const learningRate = 1e-2;

async function run(name: string, init: 'svd' | { type: 'lora-sb'; eta: number }): Promise<number> {
  const tuned = await attach(model, { type: 'lora-xs', rank: 8, init }, init === 'svd' ? {} : { data: [ids] });
  const optimizer = new AdamW(tuned.parameters(), { learningRate, weightDecay: 0 });
  const losses: number[] = [];
  for (let step = 0; step < 20; step++) {
    losses.push(
      await scope(() => {
        const loss = tuned.loss({ ids, training: true });
        loss.backward();
        optimizer.step();
        optimizer.zeroGrad();
        return loss.item();
      }),
    );
  }
  const count = tuned.table().reduce((sum, { parameters }) => sum + parameters, 0);
  console.log(
    `${name}: ${count} numbers, loss ${losses[0]?.toFixed(3)} at the start, ${losses.at(-1)?.toFixed(3)} after ${losses.length} steps`,
  );
  optimizer.dispose();
  tuned.dispose();
  return losses.at(-1) as number;
}

const xs = await run('LoRA-XS', 'svd');
const sb = await run('LoRA-SB', { type: 'lora-sb', eta: learningRate / 10 });
if (!(sb < xs)) throw new Error('lora-xs: the start from the gradient is not ahead');
model.dispose();
