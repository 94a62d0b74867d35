// Folders of LoRA-XS as its reference implementation has them.
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { attach } from 'lorikeet';
import { resolveAdapter } from '#dist/estimate/source-model.js';
import { loadTiny, temporaryFolder } from '../helpers/adapters.js';

const readJson = (folder: string, file: string) => JSON.parse(readFileSync(join(folder, file), 'utf8')) as Record<string, unknown>;

test.serial('the file of the decomposition follows the adapter, also into a folder that was there', async (t) => {
  const folder = join(temporaryFolder(), 'native');
  const save = async (niter: number): Promise<void> => {
    const model = await loadTiny();
    const tuned = await attach(model, { type: 'lora-xs', rank: 4, init: { type: 'svd', niter } });
    await tuned.save(folder, { form: 'native' });
    model.dispose();
  };
  const file = 'reconstr_config.json';
  await save(3);
  t.like(readJson(folder, file), { rank: 4, svd: { n_iter: 3 } });
  await save(5);
  t.like(readJson(folder, file), { svd: { n_iter: 5 } });
  rmSync(join(folder, file));
  await save(5);
  t.like(readJson(folder, file), { svd: { n_iter: 5 } });
});

test.serial('a folder without the mark is recognised by its tensors before a model is loaded', async (t) => {
  const folder = join(temporaryFolder(), 'native');
  const model = await loadTiny();
  const tuned = await attach(model, { type: 'lora-xs', rank: 4 });
  await tuned.save(folder, { form: 'native' });
  model.dispose();
  const { latent, ...config } = readJson(folder, 'adapter_config.json');
  t.true(latent);
  writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify(config));
  t.is((await resolveAdapter(folder)).method.name, 'lora-xs');
});
