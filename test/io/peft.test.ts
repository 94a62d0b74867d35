import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import type { CommonConfig } from '#dist/adapters/adapter.js';
import { AdapterMismatchError, loadAdapter } from '#dist/adapters/index.js';
import type { LoraConfig } from '#dist/adapters/lora-config.js';
import { resolveOptions } from '#dist/adapters/resolve-config.js';
import { ConfigError } from '#dist/errors.js';
import type { AnyInit } from '#dist/inits/init.js';
import { inits, type ResolvedInit, resolveInit } from '#dist/inits/registry.js';
import { readPeftConfig, writePeftConfig } from '#dist/io/peft-config.js';
import { isNeutral } from '#dist/io/peft-values.js';
import { loadSafetensors, saveSafetensors } from '#dist/io/safetensors.js';
import { readSafetensorsHeader } from '#dist/io/safetensors-files.js';
import { memory } from '#dist/scope.js';
import type { Tensor } from '#dist/tensor.js';
import { golden, loadTiny, readReference, referenceError, sameBits, temporaryFolder } from '../helpers/adapters.js';
import { settledTensors } from '../helpers/settled-bytes.js';
import { withTuned } from '../helpers/shipped.js';

/** Logits must agree to this share of their range: rounding of f32 sums in another order. */
const kTolerance = 1e-5;
const kAdapters = join(golden, 'adapters');
const names = readdirSync(kAdapters).filter((name) => existsSync(join(kAdapters, name, 'adapter_config.json')));
const configOf = (folder: string): Record<string, unknown> =>
  JSON.parse(readFileSync(join(folder, 'adapter_config.json'), 'utf8')) as Record<string, unknown>;

/** Lists of names have no order in PEFT: they come from sets. */
const unordered = (config: Record<string, unknown>): Record<string, unknown> =>
  Object.fromEntries(
    Object.entries(config).map(([key, value]) => [
      key,
      key !== 'trainable_token_indices' && Array.isArray(value) ? [...(value as string[])].sort() : value,
    ]),
  );

async function bytesOf(file: string): Promise<Map<string, Float32Array>> {
  const tensors = await loadSafetensors(file);
  const found = new Map<string, Float32Array>();
  for (const [name, tensor] of tensors) {
    found.set(name, (await tensor.data()) as Float32Array);
    tensor.dispose();
  }
  return found;
}

for (const name of names) {
  test.serial(`a folder written by PEFT loads, computes the same and is written back alike: ${name}`, async (t) => {
    const folder = join(kAdapters, name);
    const reference = readReference(join(folder, 'reference.json'));
    const model = await loadTiny(reference.base);
    // The first pass makes the model's rotary tables.
    t.true((await referenceError(model, reference)) > 0.01);
    const started = await settledTensors();
    const tuned = await loadAdapter(model, folder);
    const error = await referenceError(tuned, reference);
    t.true(error <= kTolerance, `logits are off by ${error} of their range`);

    const out = join(temporaryFolder(), 'saved');
    const config = configOf(folder);
    const before = await bytesOf(join(folder, 'adapter_model.safetensors'));
    const copies = [...before.keys()].some((key) => key.endsWith('.base_layer.weight'));
    await tuned.save(out, { saveEmbeddings: copies });
    t.deepEqual(unordered(configOf(out)), unordered(config));
    const after = await bytesOf(join(out, 'adapter_model.safetensors'));
    t.deepEqual([...after.keys()].sort(), [...before.keys()].sort());
    for (const [key, values] of before) t.true(sameBits(after.get(key) as Float32Array, values), key);
    t.deepEqual(readSafetensorsHeader(join(out, 'adapter_model.safetensors')).metadata, { format: 'pt' });
    t.deepEqual(readdirSync(out).sort(), ['adapter_config.json', 'adapter_model.safetensors']);

    tuned.dispose();
    t.is(memory().tensors, started);
    model.dispose();
    rmSync(dirname(out), { recursive: true });
  });
}

test.serial('two adapters on one model: each alone, and both added up', async (t) => {
  const folder = join(kAdapters, 'two-active');
  const model = await loadTiny();
  await loadAdapter(model, join(folder, 'first'), { name: 'first' });
  const tuned = await loadAdapter(model, join(folder, 'second'), { name: 'second' });
  for (const active of [['first'], ['second'], ['first', 'second']]) {
    tuned.activate(active);
    t.true((await referenceError(tuned, readReference(join(folder, `reference-${active.join('-')}.json`)))) <= kTolerance, active.join());
  }
  tuned.dispose();
  model.dispose();
});

test.serial('an adapter saved under a name lies in a subfolder, which the error for the outer folder names', async (t) => {
  const folder = join(kAdapters, 'named');
  const model = await loadTiny();
  await t.throwsAsync(loadAdapter(model, folder), {
    code: 'format',
    message: /no adapter_config\.json here; there are adapters in .*style/,
  });
  const tuned = await loadAdapter(model, join(folder, 'style'), { name: 'style' });
  t.true((await referenceError(tuned, readReference(join(folder, 'reference.json')))) <= kTolerance);
  tuned.dispose();
  model.dispose();
});

/** A copy of a golden folder with changed tensors or config keys. */
async function changed(
  change: { tensors?: (tensors: Map<string, Tensor>) => Record<string, Tensor>; config?: Record<string, unknown> },
  from = 'plain',
): Promise<string> {
  const folder = join(temporaryFolder(), 'changed');
  cpSync(join(kAdapters, from), folder, { recursive: true });
  if (change.config) writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify({ ...configOf(folder), ...change.config }));
  if (change.tensors) {
    const tensors = await loadSafetensors(join(kAdapters, from, 'adapter_model.safetensors'));
    await saveSafetensors(join(folder, 'adapter_model.safetensors'), change.tensors(tensors));
    for (const tensor of tensors.values()) tensor.dispose();
  }
  return folder;
}

const kFirst = 'base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight';

test.serial('missing, misnamed and misshapen tensors are one error that lists them; strict: false reports them', async (t) => {
  const model = await loadTiny();
  const renamed = await changed({
    tensors: (all) => Object.fromEntries([...all].map(([key, value]) => [key === kFirst ? key.replace('q_proj', 'q_porj') : key, value])),
  });
  const error = await t.throwsAsync(loadAdapter(model, renamed), { instanceOf: AdapterMismatchError, code: 'adapter' });
  t.regex(
    error?.message ?? '',
    /missing in the file \(1\):\n {2}model\.layers\.0\.self_attn\.q_proj\.lora_A\.weight; did you mean ".*q_porj/,
  );
  t.regex(
    error?.message ?? '',
    /unexpected in the file \(1\):\n {2}model\.layers\.0\.self_attn\.q_porj\.lora_A\.weight; did you mean ".*q_proj/,
  );

  const dropped = await changed({ tensors: (all) => Object.fromEntries([...all].filter(([key]) => key !== kFirst)) });
  await t.throwsAsync(loadAdapter(model, dropped), { message: /missing in the file \(1\)/ });
  const wider = await changed({ config: { r: 6 } });
  await t.throwsAsync(loadAdapter(model, wider), { message: /of another shape \(8\):\n.*got \[4, 32\], expected \[6, 32\]/ });

  const { tuned, report } = await loadAdapter(model, renamed, { strict: false });
  t.deepEqual(report.missing, ['model.layers.0.self_attn.q_proj.lora_A.weight']);
  t.deepEqual(report.unexpected, ['model.layers.0.self_attn.q_porj.lora_A.weight']);
  t.deepEqual(tuned.active, ['default']);
  tuned.dispose();
  model.dispose();
});

test.serial('keys without the prefix, of compiled modules, and the older magnitude name are read', async (t) => {
  const folder = await changed(
    {
      tensors: (all) =>
        Object.fromEntries(
          [...all].map(([key, value]) => [
            key
              .replace('base_model.model.', '')
              .replace('layers.', '_orig_mod.layers.')
              .replace(/magnitude_vector$/, 'magnitude_vector.weight'),
            value,
          ]),
        ),
    },
    'dora',
  );
  const model = await loadTiny();
  const tuned = await loadAdapter(model, folder);
  t.true((await referenceError(tuned, readReference(join(kAdapters, 'dora', 'reference.json')))) <= kTolerance);
  tuned.dispose();
  model.dispose();
});

test.serial('unknown keys of a config are kept, reported and written back; what would change the result is an error', async (t) => {
  const folder = await changed({ config: { future_option: { depth: 3 }, target_modules: ['q_proj', 'v_proj', 'c_attn'] } });
  const model = await loadTiny();
  const warnings: string[] = [];
  const tuned = await loadAdapter(model, folder, { onWarning: (message) => warnings.push(message) });
  t.regex(warnings.join('\n'), /future_option/);
  t.regex(warnings.join('\n'), /without a module in this model: c_attn/);
  const out = join(temporaryFolder(), 'out');
  await tuned.save(out);
  t.deepEqual(configOf(out), configOf(folder));
  tuned.dispose();
  model.dispose();
});

const base = configOf(join(kAdapters, 'plain'));

for (const [change, message] of [
  [{ peft_type: 'IA3' }, /no method here reads "peft_type" "IA3"/],
  [{ target_parameters: ['mlp.experts'] }, /"target_parameters" \(adapters on bare parameters\) is not supported/],
  [{ layer_replication: [[0, 2]] }, /"layer_replication" \(replicated layers\)/],
  [{ alora_invocation_tokens: [1, 2] }, /"alora_invocation_tokens"/],
  [{ megatron_config: { a: 1 } }, /"megatron_config"/],
  [{ use_qalora: true }, /"use_qalora"/],
  [{ use_bdlora: { a: 1 } }, /"use_bdlora"/],
  [{ arrow_config: { a: 1 } }, /"arrow_config"/],
  [{ velora_config: { a: 1 } }, /"velora_config"/],
  [{ kasa_config: { a: 1 } }, /"kasa_config"/],
  [{ monteclora_config: { a: 1 } }, /"monteclora_config"/],
  [{ ensure_weight_tying: true }, /"ensure_weight_tying"/],
  [{ use_brora: true }, /"use_brora" is not supported/],
  [{ init_lora_weights: 'pissa_niter_x' }, /the number of power steps must be a whole number; got "pissa_niter_x"/],
  [{ init_lora_weights: 'nonsense' }, /unknown "init_lora_weights"; got "nonsense"; .* convert the adapter to plain LoRA/],
  [{ r: '8' }, /"r" must be a number; got "8"/],
  [{ target_modules: [1] }, /"target_modules" must be a string or a list of strings/],
  [{ rank_pattern: { q_proj: 'a' } }, /"rank_pattern" must be an object of numbers/],
] as const) {
  test(`an adapter_config.json is refused: ${JSON.stringify(change)}`, (t) => {
    t.throws(() => readPeftConfig({ ...base, ...change }), { code: 'config', message });
  });
}

test('whatever a config holds, it is read or refused with an error of ours', (t) => {
  const entry = fc.tuple(fc.constantFrom(...Object.keys(base)), fc.jsonValue());
  fc.assert(
    fc.property(fc.array(entry, { minLength: 1, maxLength: 4 }), (entries) => {
      try {
        const { method, config } = readPeftConfig({ ...base, ...Object.fromEntries(entries) });
        resolveOptions(method, config as unknown as Record<string, unknown>);
        return true;
      } catch (error) {
        return error instanceof ConfigError;
      }
    }),
    { numRuns: 2000 },
  );
  t.pass();
});

test('initialisations that leave the base alone are plain LoRA, and are written back as they were', (t) => {
  for (const init of ['eva', 'mica', 'gaussian', 'orthogonal', true, false]) {
    const read = readPeftConfig({ ...base, init_lora_weights: init });
    t.is((JSON.parse(writePeftConfig({ ...read, targets: ['q_proj'] })) as Record<string, unknown>).init_lora_weights, init);
  }
});

test('initialisations are read and written by the names and configs that PEFT has for them', (t) => {
  for (const { name, peft, defaults } of Object.values(inits) as AnyInit[]) {
    if (peft === undefined) continue;
    const file = { ...base, ...peft.write(defaults) };
    const read = readPeftConfig(file);
    t.is((resolveInit((read.config as LoraConfig).init) as ResolvedInit).method.name, name);
    t.like(JSON.parse(writePeftConfig({ ...read, targets: ['q_proj'] })), peft.write(defaults));
    const config = { ...read.config, init: true } as CommonConfig;
    const plain = JSON.parse(writePeftConfig({ ...read, config, targets: ['q_proj'] })) as Record<string, unknown>;
    t.is(plain.init_lora_weights, true);
    for (const key of Object.keys(peft.write(defaults)).filter((key) => key.endsWith('_config'))) t.true(isNeutral(plain[key]), key);
  }
});

test('a config reads as it was written: sorted, indented by 2, patterns in their order', (t) => {
  const read = readPeftConfig({ ...base, rank_pattern: { z: 1, a: 2 } });
  const text = writePeftConfig({ ...read, targets: ['v_proj', 'q_proj'] });
  t.is(text, JSON.stringify(JSON.parse(text), Object.keys(base).sort().concat('z', 'a'), 2));
  t.regex(text, /"rank_pattern": \{\n {4}"z": 1,\n {4}"a": 2\n {2}\}/);
});

test.serial('folders that are no adapter, and weights that are none, are errors', async (t) => {
  const model = await loadTiny();
  const folder = temporaryFolder();
  await t.throwsAsync(loadAdapter(model, join(folder, 'none')), { code: 'invalid-argument', message: /no such folder/ });
  writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify(base));
  await t.throwsAsync(loadAdapter(model, folder), { code: 'format', message: /no adapter_model\.safetensors here/ });
  writeFileSync(join(folder, 'adapter_model.bin'), 'x');
  await t.throwsAsync(loadAdapter(model, folder), { code: 'format', message: /adapter_model\.bin: is no file of torch\.save/ });
  model.dispose();
});

test.serial('an adapter whose copy of the base weights differs belongs to another base', async (t) => {
  const model = await loadTiny('models/llama-sharded');
  const folder = await changed(
    {
      tensors: (all) =>
        Object.fromEntries(
          [...all].map(([key, value]) => [
            key,
            key.endsWith('base_layer.weight') ? (all.get('base_model.model.lm_head.lora_B.weight') as Tensor) : value,
          ]),
        ),
    },
    'lm-head',
  );
  await t.throwsAsync(loadAdapter(model, folder), {
    message: /with another base weight than this model \(1\):\n {2}lm_head\.base_layer\.weight/,
  });
  model.dispose();
});

test.serial('saving replaces a folder whole, and leaves the files of others alone', async (t) => {
  const model = await loadTiny();
  const tuned = await loadAdapter(model, join(kAdapters, 'plain'));
  const folder = join(temporaryFolder(), 'adapter');
  await tuned.save(folder);
  await tuned.save(folder);
  t.deepEqual(readdirSync(folder).sort(), ['adapter_config.json', 'adapter_model.safetensors']);
  t.deepEqual(readdirSync(dirname(folder)), ['adapter']);
  mkdirSync(join(folder, 'notes'));
  await tuned.save(folder, { dtype: 'bf16' });
  t.deepEqual(readdirSync(folder).sort(), ['adapter_config.json', 'adapter_model.safetensors', 'notes']);
  t.is([...readSafetensorsHeader(join(folder, 'adapter_model.safetensors')).tensors.values()][0]?.dtype, 'BF16');
  tuned.dispose();
  model.dispose();
});

test('saving the weights anew leaves folder and config in place; another config replaces the folder', async (t) => {
  const folder = join(temporaryFolder(), 'adapter');
  const inodes = () => ['', 'adapter_config.json', 'adapter_model.safetensors'].map((name) => statSync(join(folder, name)).ino);
  await withTuned(async (tuned) => {
    await tuned.save(folder);
    const first = inodes();
    await tuned.save(folder);
    const second = inodes();
    t.deepEqual(second.slice(0, 2), first.slice(0, 2));
    t.not(second[2], first[2]);
    await tuned.save(folder, { baseModel: 'another' });
    t.not(inodes()[0], first[0]);
    t.deepEqual(readdirSync(folder).sort(), ['adapter_config.json', 'adapter_model.safetensors']);
    t.deepEqual(readdirSync(join(folder, '..')), ['adapter']);
  });
});
