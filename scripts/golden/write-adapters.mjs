// write-adapters.mjs OUT: attaches one adapter per option of the recorded ones, one per initialisation and one per kind of virtual tokens to the same tiny models, moves it off its start, saves
// it and its logits. `check_written.py OUT` then loads every folder with PEFT. Needs a build (`npm run build`); run from the root of the package.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { attach, loadModel, noGrad, scope } from 'lorikeet';
import { add, copyInto, mul, normal } from 'lorikeet/ops';
import { inits } from '../../dist/inits/registry.js';
import { readPeftConfig } from '../../dist/io/peft-config.js';

const out = process.argv[2];
if (out === undefined) {
  process.stderr.write('write-adapters.mjs: expected the folder to write\n');
  process.exit(2);
}
const golden = 'test/golden';
const names = readdirSync(join(golden, 'adapters')).filter((name) => existsSync(join(golden, 'adapters', name, 'adapter_config.json')));
const readJson = (...path) => JSON.parse(readFileSync(join(...path), 'utf8'));
const data = Array.from({ length: 4 }, (_, i) =>
  Array.from({ length: 4 }, (_, j) => Array.from({ length: 16 }, (_, t) => 3 + ((7 * i + 5 * j + t * t) % 90))),
);

const cases = [
  ...names.map((name) => ({ name, from: name, change: {} })),
  { name: 'orthogonal', from: 'plain', change: { init: 'orthogonal' } },
  ...Object.values(inits).map(({ name, usesData, formedFromFactors, defaults }) => ({
    name,
    from: 'plain',
    change: { init: name },
    options: usesData ? { data } : {},
    // On the published weights these are only nearly what was trained.
    ...(formedFromFactors?.(defaults) === false ? { form: 'split' } : {}),
  })),
  { name: 'eva-ranks', from: 'plain', change: { init: { type: 'eva', rho: 8 }, rank: 2, targets: 'all-linear' }, options: { data } },
  { name: 'split', from: 'plain', change: { init: 'pissa' }, form: 'split' },
  ...Object.entries({
    prefix: { type: 'prefix', virtualTokens: 5 },
    'prefix-projection': { type: 'prefix', virtualTokens: 4, projection: true, projectionSize: 12 },
    prompt: { type: 'prompt', virtualTokens: 4, init: 'vocabulary' },
    'p-tuning': { type: 'p-tuning', virtualTokens: 3 },
    'p-tuning-lstm': { type: 'p-tuning', virtualTokens: 3, encoder: 'lstm', encoderSize: 6 },
  }).map(([name, whole]) => ({ name, from: 'plain', whole })),
];
mkdirSync(out, { recursive: true });
for (const { name, from, change, whole, options = {}, form } of cases) {
  const { base, sequences } = readJson(golden, 'adapters', from, 'reference.json');
  const { config } = readPeftConfig(readJson(golden, 'adapters', from, 'adapter_config.json'));
  const model = await loadModel(join(golden, base));
  const tuned = await attach(model, whole ?? { ...config, type: 'lora', ...change }, { seed: 11, ...options });
  for (const [i, value] of tuned.parameters().entries()) {
    scope(() => noGrad(() => copyInto(value, add(value, mul(normal(value.shape, { seed: 50 + i }), 0.1)))));
  }
  const folder = resolve(out, name);
  const written = form === undefined ? await tuned.save(folder, { baseModel: base }) : await tuned.save(folder, { form });
  const rows = [];
  for (const { ids } of sequences) {
    const logits = tuned.logits([ids]);
    const [, time, width] = logits.shape;
    const values = await logits.data();
    rows.push({ ids, logits: Array.from({ length: time }, (_, t) => Array.from(values.subarray(t * width, (t + 1) * width))) });
    logits.dispose();
  }
  // Where a model was written too, the adapter is for that one.
  const [first, adapter = first] = written;
  writeFileSync(join(out, `${name}.json`), JSON.stringify({ base: adapter === first ? base : first, adapter, sequences: rows }));
  tuned.dispose();
  model.dispose();
  process.stderr.write(`${name}\n`);
}
