// Run: npm run quickstart
// Fine-tunes the shipped stories260k model on Shakespeare with LoRA, saves, reloads and merges it. Expected: held-out loss from 4.97 to about 3.2.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { attach, evaluate, generate, loadAdapter, loadModel, train } from 'lorikeet';

const shipped = (name: string) => `examples/${name}`;
const held = { path: shipped('shakespeare/dev.jsonl') };
const prompt = 'ROMEO:\n';
const sampling = { maxNewTokens: 100, temperature: 0.8, seed: 7 };
const folder = mkdtempSync(join(tmpdir(), 'lorikeet-quickstart-'));
const begin = performance.now();

try {
  const model = await loadModel(shipped('stories260k'));
  const before = await evaluate(model, held);
  console.log(`held-out loss before: ${before.nll.toFixed(4)} (perplexity ${before.perplexity.toFixed(1)}, ${before.tokens} tokens)`);
  console.log(`--- sample before ---\n${prompt}${await generate(model, prompt, sampling).text()}\n---`);

  const tuned = await attach(model, { type: 'lora', rank: 16, alpha: 32, targets: 'all-linear' }, { seed: 1 });
  const run = train(tuned, {
    data: { train: { path: shipped('shakespeare/train.jsonl') } },
    training: { steps: 150, batch: 8, sequence: 256, learningRate: 1e-2, warmup: 10, seed: 1 },
  });
  for await (const { step, loss, tokensPerSecond } of run) {
    if (step % 20 === 0) console.log(`step ${step}  loss ${loss.toFixed(4)}  ${Math.round(tokensPerSecond)} tokens/s`);
  }

  const after = await evaluate(tuned, held);
  console.log(`held-out loss after: ${after.nll.toFixed(4)} (perplexity ${after.perplexity.toFixed(1)})`);
  console.log(`--- sample after ---\n${prompt}${await generate(tuned, prompt, sampling).text()}\n---`);

  const adapter = join(folder, 'adapter');
  await tuned.save(adapter);
  tuned.dispose();
  const reloaded = await loadAdapter(model, adapter);
  const again = await evaluate(reloaded, held);
  console.log(`held-out loss of the reloaded adapter: ${again.nll.toFixed(4)}`);

  const { maxError } = await reloaded.merge();
  const merged = await evaluate(reloaded, held);
  console.log(`merged into the weights: largest relative error ${maxError.toExponential(1)}, held-out loss ${merged.nll.toFixed(4)}`);
  console.log(`done in ${((performance.now() - begin) / 1000).toFixed(1)} s`);

  if (!(after.nll < before.nll - 1))
    throw new Error(`quickstart: the held-out loss did not drop clearly; got ${after.nll}, before ${before.nll}`);
  if (again.nll !== after.nll) throw new Error(`quickstart: the reloaded adapter differs; got loss ${again.nll}, expected ${after.nll}`);
  if (!(Math.abs(merged.nll - after.nll) < 1e-4))
    throw new Error(`quickstart: merging changed the model; got loss ${merged.nll}, expected ${after.nll}`);
  reloaded.dispose();
  model.dispose();
} finally {
  rmSync(folder, { recursive: true, force: true });
}
