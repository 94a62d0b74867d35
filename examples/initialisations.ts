// Run: npx tsc -p tsconfig.test.json && node out/examples/initialisations.js
// LoRA from several starts, equal in rank, rate and steps, each saved for the published weights. Expected: the starts from weights and data are ahead of plain LoRA.
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type AdapterConfig, attach, calibrationBatches, loadModel, train } from 'lorikeet';

const source = { path: 'examples/shakespeare/train.jsonl' };
const training = { steps: 20, batch: 8, sequence: 128, learningRate: 1e-3, seed: 1 } as const;
const folder = mkdtempSync(join(tmpdir(), 'lorikeet-'));
const model = await loadModel('examples/stories260k');
const data = await calibrationBatches(model, source, { batches: 8, training });

const starts: Readonly<Record<string, Partial<AdapterConfig>>> = {
  LoRA: {},
  PiSSA: { init: 'pissa' },
  OLoRA: { init: 'olora' },
  EVA: { init: 'eva' },
  CorDA: { init: { type: 'corda', method: 'ipm' } },
  'LoRA-GA': { init: { type: 'lora-ga', stableGamma: 64 }, rsLora: true },
};

const ends: Record<string, number> = {};
for (const [name, options] of Object.entries(starts)) {
  const looks = ['EVA', 'CorDA', 'LoRA-GA'].includes(name);
  const config = { type: 'lora', rank: 8, alpha: 8, targets: 'all-linear', ...options } as AdapterConfig;
  const tuned = await attach(model, config, { seed: 1, ...(looks && { data }) });
  const { loss } = await train(tuned, { data: { train: source }, training });
  await tuned.save(join(folder, name));
  console.log(`${name}: loss ${loss.toFixed(3)} after ${training.steps} steps, saved in ${join(folder, name)}`);
  ends[name] = loss;
  tuned.dispose();
}
for (const [name, loss] of Object.entries(ends))
  if (name !== 'LoRA' && !(loss < (ends.LoRA ?? 0))) throw new Error(`initialisations: ${name} is not ahead of LoRA`);
model.dispose();
