// write-exports.mjs OUT: puts an adapter on every tiny model of the goldens (and on the one in examples/) and writes it and the merged model in all formats, with the
// logits of the adapted model in `logits.json`. `check_transformers.py`, `check_llama_cpp.py` and `check_mlx.py` then load the files with those libraries.
// Needs a build (`npm run build`); run from the root of the package.
import { cpSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { attach, ConfigError, loadModel, noGrad, saveModel, scope } from 'lorikeet';
import { readAdapter, saveGguf, writeAdapter } from 'lorikeet/io';
import { add, copyInto, mul, normal } from 'lorikeet/ops';

const out = process.argv[2];
if (out === undefined) {
  process.stderr.write('write-exports.mjs: expected the folder to write\n');
  process.exit(2);
}
const golden = 'test/golden/models';
const models = readdirSync(golden).map((name) => [name, join(golden, name)]);
models.push(['stories260k', 'examples/stories260k']);

// One after the other, so that every architecture meets several of them.
const inner = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'];
const options = [
  { targets: 'all-linear', rank: 4, alpha: 8 },
  { targets: [...inner, 'lm_head'], rank: 4, alpha: 6, rsLora: true },
  { targets: inner, rank: 4, alpha: 8, rankPattern: { k_proj: 2 }, alphaPattern: { down_proj: 3 } },
  { targets: [...inner, 'embed_tokens'], rank: 4, alpha: 8 },
];
const sequences = [
  [5, 17, 60, 3, 88, 41, 9],
  [1, 30, 30, 2, 71],
];

async function logitsOf(model) {
  const rows = [];
  for (const ids of sequences) {
    const logits = model.logits([ids]);
    const [, time, width] = logits.shape;
    const values = await logits.data();
    rows.push({ ids, logits: Array.from({ length: time }, (_, t) => Array.from(values.subarray(t * width, (t + 1) * width))) });
    logits.dispose();
  }
  return rows;
}

/** Runs a step; a refusal is noted in place of its file. */
async function allowed(refused, what, step) {
  try {
    await step();
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    refused[what] = error.message;
  }
}

for (const [i, [name, source]] of models.entries()) {
  const folder = join(out, name);
  mkdirSync(folder, { recursive: true });
  const model = await loadModel(source, { dtype: 'f32' });
  const base = await logitsOf(model);
  const tuned = await attach(model, { type: 'lora', ...options[i % options.length] }, { seed: 11 });
  for (const [j, value] of tuned.parameters().entries())
    scope(() => noGrad(() => copyInto(value, add(value, mul(normal(value.shape, { seed: 50 + j }), 0.1)))));
  await tuned.save(join(folder, 'adapter'), { baseModel: source });
  const adapter = await readAdapter(join(folder, 'adapter'));
  const refused = {};
  await allowed(refused, 'adapter.gguf', () => writeAdapter(adapter, 'gguf', join(folder, 'adapter.gguf'), { config: model.config }));
  await allowed(refused, 'mlx', () => writeAdapter(adapter, 'mlx', join(folder, 'mlx'), { config: model.config }));
  adapter.dispose();
  await allowed(refused, 'base.gguf', () => saveGguf(model, join(folder, 'base.gguf'), { type: 'f32' }));
  const adapted = await logitsOf(tuned);
  const { maxError } = await tuned.merge();
  await saveModel(model, join(folder, 'merged'));
  await saveModel(model, join(folder, 'merged-bf16'), { dtype: 'bf16' });
  for (const type of ['f32', 'f16', 'bf16', 'q8_0'])
    await allowed(refused, `merged-${type}.gguf`, () => saveGguf(model, join(folder, `merged-${type}.gguf`), { type }));
  if (existsSync(join(source, 'config.json'))) cpSync(source, join(folder, 'base'), { recursive: true });
  writeFileSync(join(folder, 'logits.json'), JSON.stringify({ source, maxError, refused, base, sequences: adapted }));
  tuned.dispose();
  model.dispose();
  process.stderr.write(
    `${name}: largest relative error of a merged layer ${maxError.toExponential(2)}${Object.keys(refused).length > 0 ? ` ${JSON.stringify(refused)}` : ''}\n`,
  );
}
