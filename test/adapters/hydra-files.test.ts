// Files of Hydra: its own, and as plain LoRA.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { attach, loadAdapter } from 'lorikeet';
import { loadSafetensors } from '#dist/io/safetensors.js';
import { loadTiny, logitsOf, sameBits, temporaryFolder } from '../helpers/adapters.js';
import { perturb } from '../helpers/perturb.js';

const ids = [3, 17, 42, 5, 8, 80];

test.serial('a file holds the config and the named tensors, a learned scale among them', async (t) => {
  const model = await loadTiny();
  const tuned = await attach(model, { type: 'hydra', rankParallel: 3, rankSequential: 1, scale: 'learned', bias: true, init: 'kaiming' });
  perturb(tuned);
  const adapted = await logitsOf(tuned, ids);
  const folder = join(temporaryFolder(), 'hydra');
  await tuned.save(folder);
  tuned.dispose();
  const config = JSON.parse(readFileSync(join(folder, 'adapter_config.json'), 'utf8')) as Record<string, unknown>;
  t.like(config, { peft_type: 'HYDRA', r_parallel: 3, r_sequential: 1, scale: 'learned', hydra_bias: true, init_hydra_weights: 'kaiming' });
  const names = [...(await loadSafetensors(join(folder, 'adapter_model.safetensors'))).keys()].filter((name) =>
    name.includes('layers.0.mlp'),
  );
  const start = 'base_model.model.model.layers.0.mlp.down_proj.hydra_';
  t.deepEqual(names.sort(), [
    ...['par_A', 'par_B'].flatMap((name) => [`${start}${name}.bias`, `${start}${name}.weight`]),
    `${start}scale`,
    ...['seq_A', 'seq_B'].flatMap((name) => [`${start}${name}.bias`, `${start}${name}.weight`]),
  ]);
  const loaded = await loadAdapter(model, folder);
  t.true(sameBits(await logitsOf(loaded, ids), adapted));
  t.is(loaded.parameters().length, 4 * 9);
  loaded.dispose();
  model.dispose();
});

test.serial('LoRA form of merged weights is refused, and so is a split one', async (t) => {
  const model = await loadTiny();
  const tuned = await attach(model, { type: 'hydra' });
  perturb(tuned);
  await tuned.merge();
  await t.throwsAsync(tuned.save(join(temporaryFolder(), 'x'), { form: 'lora' }), { code: 'adapter', message: /unmerge first/ });
  await tuned.unmerge();
  await attach(model, { type: 'lora' }, { name: 'beside' });
  await tuned.merge();
  await t.throwsAsync(tuned.save(join(temporaryFolder(), 'x'), { name: 'default', form: 'lora' }), {
    message: /got "beside" merged into them/,
  });
  await tuned.unmerge();
  tuned.activate('default');
  await t.throwsAsync(tuned.save(join(temporaryFolder(), 'x'), { form: 'initial' }), { code: 'adapter', message: /no form "initial"/ });
  model.dispose();
});
