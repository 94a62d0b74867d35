// write-encoders.mjs OUT: puts LoRA on the tiny encoders, moves it off its start, and saves it with the outputs of the recorded rows. `check_encoders.py OUT` then
// loads every folder with PEFT. Needs a build (`npm run build`); run from the root of the package.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { attach, noGrad, scope } from 'lorikeet';
import { add, copyInto, mul, normal, tensor } from 'lorikeet/ops';
import { resolveModel } from '../../dist/io/model-files.js';
import { savePeftFolder } from '../../dist/io/peft.js';
import { safetensorsWeights } from '../../dist/io/weights.js';
import { createEncoder } from '../../dist/models/encoders.js';
import { loadWeights } from '../../dist/models/load-weights.js';

const out = process.argv[2];
if (out === undefined) {
  process.stderr.write('write-encoders.mjs: expected the folder to write\n');
  process.exit(2);
}
const golden = 'test/golden/encoders';
const attention = { roles: ['attention.query', 'attention.value'] };
const cases = [
  { base: 'bert-base', task: 'embedding', config: { targets: attention } },
  { base: 'bert-classification', task: 'classification', config: { targets: attention, modulesToSave: ['classifier'] } },
  { base: 'bert-regression', task: 'regression', config: { targets: { roles: ['mlp'] }, modulesToSave: ['classifier'], dora: true } },
  { base: 'bert-token-classification', task: 'token-classification', config: { targets: { roles: ['attention', 'mlp'] } } },
  { base: 'bert-masked-lm', task: 'masked-lm', config: { targets: attention } },
];
const ids = (values) => tensor(BigInt64Array.from(values, BigInt), { shape: [1, values.length] });

mkdirSync(out, { recursive: true });
for (const { base, task, config } of cases) {
  const files = await resolveModel(join(golden, base));
  const network = createEncoder(files.config, task, { pooling: { mode: 'cls' } });
  await loadWeights(network, safetensorsWeights(files.weights, base));
  const set = await attach(network, { type: 'lora', rank: 3, alpha: 6, ...config }, { seed: 11 });
  for (const [i, value] of set.parameters().entries())
    scope(() => noGrad(() => copyInto(value, add(value, mul(normal(value.shape, { seed: 50 + i }), 0.1)))));
  const adapter = resolve(out, base);
  await savePeftFolder(adapter, set.get('default'), network, { baseModel: base });
  const { rows } = JSON.parse(readFileSync(join(golden, base, 'reference.json'), 'utf8'));
  const written = [];
  for (const { ids: row, tokenTypes } of rows) {
    const output = await scope(() => {
      const y = noGrad(() => network.forward({ ids: ids(row), tokenTypes: ids(tokenTypes) }, { training: false }));
      return y.data();
    });
    written.push({ ids: row, tokenTypes, output: Array.from(output) });
  }
  writeFileSync(join(out, `${base}.json`), JSON.stringify({ base, adapter, rows: written }));
  set.dispose();
  network.dispose();
}
