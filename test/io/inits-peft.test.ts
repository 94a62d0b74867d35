// Adapters that PEFT started from weights or data and trained, in each of the forms in which it saves them (scripts/golden/inits_peft.py).
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { loadAdapter, loadModel } from 'lorikeet';
import type { LoraConfig } from '#dist/adapters/lora-config.js';
import { takesOf } from '#dist/adapters/lora-portable.js';
import type { AnyInit } from '#dist/inits/init.js';
import { inits } from '#dist/inits/registry.js';
import type { JsonObject } from '#dist/io/json.js';
import { readPeftConfig } from '#dist/io/peft-config.js';
import { golden, loadTiny, readReference, referenceError, temporaryFolder } from '../helpers/adapters.js';

const kTolerance = 1e-4;
const names = readdirSync(join(golden, 'inits-peft'));
const methods: readonly AnyInit[] = Object.values(inits);

/** What was saved of each beside the adapter as trained. */
const taking = ['corda', 'lora_ga', 'olora', 'pissa', 'pissa-rslora', 'pissa_niter_4'];
const forms = { adapter: [...taking, 'eva'].sort(), converted: taking, initial: taking, split: ['pissa'] };

test('every adapter that was recorded is there, in its forms', (t) => {
  for (const [form, expected] of Object.entries(forms))
    t.deepEqual(names.filter((name) => existsSync(join(golden, 'inits-peft', name, form))).sort(), expected, form);
});

for (const name of names) {
  const folder = join(golden, 'inits-peft', name);
  const reference = readReference(join(folder, 'reference.json'));
  const { init } = reference as unknown as { readonly init: string };
  const adapter = join(folder, 'adapter');
  const file = JSON.parse(readFileSync(join(adapter, 'adapter_config.json'), 'utf8')) as JsonObject;

  /** How far the model is from PEFT's logits. */
  const error = async (path: string, options: { readonly initial?: string } = {}): Promise<number> => {
    const model = await loadTiny(reference.base);
    try {
      return await referenceError(await loadAdapter(model, path, { ...options, strict: true }), reference);
    } finally {
      model.dispose();
    }
  };

  if (existsSync(join(folder, 'converted'))) {
    test(`${name}: converted to plain LoRA`, async (t) => {
      t.true((await error(join(folder, 'converted'))) < kTolerance);
    });
  }

  if (existsSync(join(folder, 'split'))) {
    test(`${name}: on the model that PEFT left`, async (t) => {
      const model = await loadModel(join(folder, 'split'));
      const tuned = await loadAdapter(model, join(folder, 'split', `${init}_init`));
      t.true((await referenceError(tuned, reference)) < kTolerance);
      model.dispose();
    });
  }

  test(`${name}: its spelling is that of one initialisation`, (t) => {
    t.is(methods.filter(({ peft }) => peft?.read(init, file) !== undefined).length, 1);
  });

  const taken = takesOf(readPeftConfig(file).config as LoraConfig);

  test(`${name}: on the published model, ${taken === undefined ? 'as it is' : 'split again'}`, async (t) => {
    if (taken === undefined || taken.repeatable) t.true((await error(adapter)) < kTolerance);
    else await t.throwsAsync(error(adapter), { code: 'config', message: /its result cannot be computed again/ });
    if (taken?.formedFromFactors) t.true((await error(adapter, { initial: join(folder, 'initial') })) < kTolerance);
  });

  test(`${name}: saved again, for the published model`, async (t) => {
    const model = await loadTiny(reference.base);
    const options = taken?.repeatable === false ? { initial: join(folder, 'initial') } : {};
    const tuned = await loadAdapter(model, adapter, options);
    const again = join(temporaryFolder(), 'again');
    await tuned.save(again);
    model.dispose();
    const written = JSON.parse(readFileSync(join(again, 'adapter_config.json'), 'utf8')) as JsonObject;
    t.is(written.init_lora_weights, taken === undefined ? init : true);
    t.true((await error(again)) < kTolerance);
  });
}
