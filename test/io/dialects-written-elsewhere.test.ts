import { join } from 'node:path';
import test from 'ava';
import { ConfigError, loadAdapter } from 'lorikeet';
import { readAdapter, writeAdapter } from 'lorikeet/io';
import { golden, loadTiny, readReference, referenceError } from '../helpers/adapters.js';
import { temporaryFolder } from '../helpers/command-line.js';
import { readJson } from '../helpers/folders.js';

const folder = temporaryFolder();
const files = join(golden, 'dialects');

for (const name of ['linear', 'embedding-tied']) {
  test.serial(`an adapter that mlx-lm wrote gives mlx-lm's logits: ${name}`, async (t) => {
    const reference = readReference(join(files, `mlx-${name}`, 'reference.json'));
    const config = readJson<Record<string, unknown>>(golden, reference.base, 'config.json');
    const adapter = await readAdapter(join(files, `mlx-${name}`), { config });
    const out = join(folder, name);
    await writeAdapter(adapter, 'peft', out);
    adapter.dispose();
    const model = await loadTiny(reference.base);
    const tuned = await loadAdapter(model, out);
    t.true((await referenceError(tuned, reference)) < 1e-5);
    model.dispose();
  });
}

test('an embedding of mlx-lm needs the base model, which tells whether the head is tied to it', async (t) => {
  await t.throwsAsync(readAdapter(join(files, 'mlx-embedding-tied')), { instanceOf: ConfigError, message: /the base model tells/ });
});
