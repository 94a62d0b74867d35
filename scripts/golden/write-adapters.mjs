// write-adapters.mjs OUT: attaches one adapter per option of the recorded ones to the same tiny models, moves it off its start, saves it and its logits.
// `check_written.py OUT` then loads every folder with PEFT. Needs a build (`npm run build`); run from the root of the package.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { attach, loadModel, noGrad, scope } from 'lorikeet';
import { add, copyInto, mul, normal } from 'lorikeet/ops';
import { readPeftConfig } from '../../dist/io/peft-config.js';

const out = process.argv[2];
if (out === undefined) {
  process.stderr.write('write-adapters.mjs: expected the folder to write\n');
  process.exit(2);
}
const golden = 'test/golden';
const names = readdirSync(join(golden, 'adapters')).filter((name) => existsSync(join(golden, 'adapters', name, 'adapter_config.json')));
const readJson = (...path) => JSON.parse(readFileSync(join(...path), 'utf8'));

for (const name of [...names, 'orthogonal']) {
  const from = name === 'orthogonal' ? 'plain' : name;
  const { base, sequences } = readJson(golden, 'adapters', from, 'reference.json');
  const { config } = readPeftConfig(readJson(golden, 'adapters', from, 'adapter_config.json'));
  const model = await loadModel(join(golden, base));
  const tuned = await attach(model, { ...config, type: 'lora', ...(name === 'orthogonal' ? { init: 'orthogonal' } : {}) }, { seed: 11 });
  for (const [i, value] of tuned.parameters().entries()) {
    scope(() => noGrad(() => copyInto(value, add(value, mul(normal(value.shape, { seed: 50 + i }), 0.1)))));
  }
  const folder = join(out, name);
  mkdirSync(out, { recursive: true });
  await tuned.save(folder, { baseModel: base });
  const rows = [];
  for (const { ids } of sequences) {
    const logits = tuned.logits([ids]);
    const [, time, width] = logits.shape;
    const values = await logits.data();
    rows.push({ ids, logits: Array.from({ length: time }, (_, t) => Array.from(values.subarray(t * width, (t + 1) * width))) });
    logits.dispose();
  }
  writeFileSync(join(out, `${name}.json`), JSON.stringify({ base, sequences: rows }));
  tuned.dispose();
  model.dispose();
  process.stderr.write(`${name}\n`);
}
