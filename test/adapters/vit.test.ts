// Adapters of PEFT on a vision transformer, by the names of its published weights and by those that transformers 5 gives its modules.
import { join } from 'node:path';
import test from 'ava';
import { loadAdapter, memory, noGrad, scope, type Tensor } from 'lorikeet';
import { tensor } from 'lorikeet/ops';
import { loadSafetensors } from '#dist/io/safetensors.js';
import { temporaryFolder } from '../helpers/command-line.js';
import { asModel, goldenEncoder, openEncoder } from '../helpers/encoders.js';
import { readJson } from '../helpers/folders.js';
import { near, numbers } from '../helpers/numbers.js';

interface Recorded {
  cases: { input: { shape: number[]; values: number[] }; logits: number[] }[];
}
interface Config {
  target_modules: string[] | string;
  rank_pattern: Record<string, number>;
}

async function tensorsOf(folder: string): Promise<Record<string, number[]>> {
  const stored = (await loadSafetensors(join(folder, 'adapter_model.safetensors'))) as ReadonlyMap<string, Tensor>;
  const found: [string, number[]][] = [];
  for (const [name, value] of stored) {
    found.push([name, await numbers(value)]);
    value.dispose();
  }
  return Object.fromEntries(found.sort(([a], [b]) => (a < b ? -1 : 1)));
}

for (const name of ['vit-lora', 'vit-lora-older'])
  test.serial(`${name}: logits of PEFT, and both spellings written back`, async (t) => {
    const { network } = await openEncoder(goldenEncoder('vit'), 'classification');
    const tuned = await loadAdapter(asModel(network, 'vit'), goldenEncoder(name), { onWarning: (message) => t.fail(message) });
    const [recorded] = readJson<Recorded>(goldenEncoder(name), 'reference.json').cases;
    const { input, logits } = recorded as Recorded['cases'][number];
    const got = await scope(() => {
      const pixels = tensor(Float32Array.from(input.values), { shape: input.shape });
      return numbers(noGrad(() => network.forward({ pixels }, { training: false })));
    });
    near(t, got, logits, 1e-4, 'logits');

    const [published, newer] = [temporaryFolder(), temporaryFolder()];
    await tuned.save(published);
    await tuned.save(newer, { names: 'transformers-5' });
    t.deepEqual(await tensorsOf(published), await tensorsOf(goldenEncoder('vit-lora-older')));
    t.deepEqual(await tensorsOf(newer), await tensorsOf(goldenEncoder('vit-lora')));
    const config = readJson<Config>(newer, 'adapter_config.json');
    t.deepEqual(config.target_modules, ['fc2', 'q_proj', 'v_proj']);
    t.deepEqual(config.rank_pattern, { '^vit\\.layers\\.1\\.attention\\.q_proj': 2 });
    tuned.dispose();
    network.dispose();
  });

test.after.always('no tensor is left', (t) => {
  t.is(memory().tensors, 0);
});
