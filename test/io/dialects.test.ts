import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { ConfigError, FormatError, loadAdapter } from 'lorikeet';
import { type Dialect, detectDialect, loadSafetensors, readAdapter, saveSafetensors, writeAdapter } from 'lorikeet/io';
import { normal } from 'lorikeet/ops';
import { golden, loadTiny, readReference, referenceError } from '../helpers/adapters.js';
import { temporaryFolder } from '../helpers/command-line.js';
import { readJson } from '../helpers/folders.js';

const folder = temporaryFolder();
const adapters = join(golden, 'adapters');
const base = 'models/llama-gqa-tied';
const config = readJson<Record<string, unknown>>(golden, base, 'config.json');

const outOf = (dialect: Dialect, name: string): string =>
  join(folder, `${name}-${dialect}${dialect === 'kohya' || dialect === 'diffusers' ? '.safetensors' : dialect === 'gguf' ? '.gguf' : ''}`);

for (const name of [
  'plain',
  'rslora',
  'patterns',
  'patterns-rslora',
  'float-alpha',
  'embedding-untied',
  'lm-head',
  'all-linear',
  'rank-above-size',
]) {
  for (const dialect of ['peft', 'kohya', 'mlx', 'diffusers', 'gguf'] as const) {
    const model = readReference(join(adapters, name, 'reference.json')).base;
    if (name === 'embedding-untied' && (dialect === 'kohya' || dialect === 'diffusers')) continue;
    test.serial(`${name} written as ${dialect} and read back gives PEFT's logits`, async (t) => {
      const options = { config: readJson<Record<string, unknown>>(golden, model, 'config.json') };
      const source = await readAdapter(join(adapters, name));
      t.is(source.dialect, 'peft');
      const out = outOf(dialect, name);
      const tensors = await writeAdapter(source, dialect, out, options);
      const again = await readAdapter(out, options);
      t.is(again.dialect, dialect);
      t.is(again.pairs.size, source.pairs.size);
      t.true(tensors >= 2 * source.pairs.size);
      const back = join(folder, `${name}-${dialect}-back`);
      await writeAdapter(again, 'peft', back);
      const tiny = await loadTiny(model);
      const tuned = await loadAdapter(tiny, back);
      t.true((await referenceError(tuned, readReference(join(adapters, name, 'reference.json')))) < 1e-5);
      for (const each of [source, again, tuned, tiny]) each.dispose();
    });
  }
}

test('factors go through kohya, diffusers and peft with their bits', async (t) => {
  const source = await readAdapter(join(adapters, 'plain'));
  const kohya = outOf('kohya', 'bits');
  await writeAdapter(source, 'kohya', kohya);
  const stored = await loadSafetensors(kohya);
  t.true(stored.has('lora_transformer_model_layers_0_self_attn_q_proj.lora_down.weight'));
  t.deepEqual([...((await stored.get('lora_transformer_model_layers_0_self_attn_q_proj.alpha')?.data()) ?? [])], [8]);
  const again = await readAdapter(kohya);
  for (const [path, { a, b }] of source.pairs) {
    t.deepEqual(await again.pairs.get(path)?.a.data(), await a.data());
    t.deepEqual(await again.pairs.get(path)?.b.data(), await b.data());
  }
});

test('mlx: factors lie transposed, one rank and one scale for all', async (t) => {
  const source = await readAdapter(join(adapters, 'patterns'));
  const out = outOf('mlx', 'keys');
  await writeAdapter(source, 'mlx', out);
  const written = readJson<{ lora_parameters: { rank: number; keys: string[] }; num_layers: number; fine_tune_type: string }>(
    out,
    'adapter_config.json',
  );
  t.is(written.fine_tune_type, 'lora');
  t.is(written.num_layers, -1);
  t.is(written.lora_parameters.rank, 6);
  t.true(written.lora_parameters.keys.includes('self_attn.q_proj'));
  const tensors = await loadSafetensors(join(out, 'adapters.safetensors'));
  t.deepEqual(tensors.get('model.layers.0.self_attn.q_proj.lora_a')?.shape, [32, 6]);
  t.deepEqual(tensors.get('model.layers.0.self_attn.q_proj.lora_b')?.shape, [6, 32]);
});

const pair = (n = 6, k = 4, r = 2) => ({ down: normal([r, k], { seed: 1 }), up: normal([n, r], { seed: 2 }) });

test('kohya names of a diffusion network are matched against module names; without them they are refused', async (t) => {
  const file = join(folder, 'unet.safetensors');
  const { down, up } = pair();
  const name = 'lora_unet_own_blocks_0_attentions_1_to_q';
  await saveSafetensors(file, { [`${name}.lora_down.weight`]: down, [`${name}.lora_up.weight`]: up });
  await t.throwsAsync(readAdapter(file), {
    instanceOf: FormatError,
    message: /"own_blocks_0_attentions_1_to_q" has _ for \. .* \(at "own"\)/,
  });
  const modules = ['own_blocks.0.attentions.1.to_q', 'own_blocks.0.attentions.1.to_k'];
  const adapter = await readAdapter(file, { modules });
  t.deepEqual(adapter.components, ['unet']);
  t.deepEqual([...adapter.pairs.keys()], [modules[0] ?? '']);
  t.is(adapter.pairs.get(modules[0] ?? '')?.scale, 1, 'without alpha: the rank');
  await t.throwsAsync(readAdapter(file, { modules: ['own_blocks.0.attentions.1.to_v'] }), {
    message: /is no module of the model; did you mean/,
  });
  await t.throwsAsync(readAdapter(file, { modules: ['own_blocks.0.attentions.1.to_q', 'own_blocks.0_attentions.1.to_q'] }), {
    message: /may mean/,
  });
  const out = join(folder, 'unet-diffusers.safetensors');
  await writeAdapter(adapter, 'diffusers', out);
  t.true((await loadSafetensors(out)).has('unet.own_blocks.0.attentions.1.to_q.lora_A.weight'));
});

test('diffusers: the older names, alpha from the metadata, convolutions', async (t) => {
  const file = join(folder, 'old.safetensors');
  const { down, up } = pair();
  const metadata = { lora_adapter_metadata: JSON.stringify({ 'unet.r': 2, 'unet.lora_alpha': 6, 'unet.alpha_pattern': {} }) };
  await saveSafetensors(file, { 'unet.a.b.lora.down.weight': down, 'unet.a.b.lora.up.weight': up }, metadata);
  const adapter = await readAdapter(file);
  t.is(adapter.dialect, 'diffusers');
  t.is(adapter.pairs.get('a.b')?.scale, 3);
  const conv = join(folder, 'conv.safetensors');
  await saveSafetensors(conv, { 'unet.c.lora_A.weight': normal([2, 4, 3, 3], {}), 'unet.c.lora_B.weight': normal([6, 2, 1, 1], {}) });
  const convolution = await readAdapter(conv);
  await writeAdapter(convolution, 'kohya', join(folder, 'conv-kohya.safetensors'));
  await t.throwsAsync(writeAdapter(convolution, 'mlx', join(folder, 'conv-mlx')), {
    instanceOf: ConfigError,
    message: /no place for convolutions; got "c"/,
  });
  t.false(existsSync(join(folder, 'conv-mlx')));
});

test('two text encoders are counted in kohya names, and the first names of diffusers are read', async (t) => {
  const file = join(folder, 'encoders.safetensors');
  const { down, up } = pair();
  await saveSafetensors(file, {
    'text_encoder.text_model.encoder.layers.0.self_attn.to_out_lora.down.weight': down,
    'text_encoder.text_model.encoder.layers.0.self_attn.to_out_lora.up.weight': up,
    'text_encoder_2.text_model.encoder.layers.0.mlp.fc1.lora_linear_layer.down.weight': down,
    'text_encoder_2.text_model.encoder.layers.0.mlp.fc1.lora_linear_layer.up.weight': up,
    'unet.mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight': down,
    'unet.mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.up.weight': up,
  });
  const adapter = await readAdapter(file);
  const out = join(folder, 'encoders-kohya.safetensors');
  await writeAdapter(adapter, 'kohya', out);
  t.deepEqual([...(await loadSafetensors(out)).keys()].filter((name) => name.endsWith('.alpha')).sort(), [
    'lora_te1_text_model_encoder_layers_0_self_attn_out_proj.alpha',
    'lora_te2_text_model_encoder_layers_0_mlp_fc1.alpha',
    'lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q.alpha',
  ]);
  t.deepEqual([...(await readAdapter(out)).pairs.keys()].sort(), [...adapter.pairs.keys()].sort());
});

test('the detector says what it saw; mixtures and strangers are errors', async (t) => {
  t.deepEqual(detectDialect('f', ['base_model.model.x.lora_A.weight']), { dialect: 'peft', evidence: 'base_model.model.x.lora_A.weight' });
  t.is(detectDialect('f', ['x.lora_a', 'x.lora_b']).dialect, 'mlx');
  t.is(detectDialect('f', ['lora_te1_x.alpha']).dialect, 'kohya');
  t.is(detectDialect('f', ['transformer.x.lora_A.weight']).dialect, 'diffusers');
  t.throws(() => detectDialect('f', ['lora_unet_x.lora_up.weight', 'base_model.model.y.lora_A.weight']), {
    instanceOf: FormatError,
    message: 'f: mixes two dialects; got "lora_unet_x.lora_up.weight" (kohya) and "base_model.model.y.lora_A.weight" (peft), expected one',
  });
  t.throws(() => detectDialect('f', ['model.norm.weight']), { instanceOf: FormatError, message: /names such as "model.norm.weight"/ });
  t.throws(() => detectDialect('f', []), { message: /no tensors/ });
});

test('what is more than plain LoRA, or broken, is named', async (t) => {
  const fails = (path: string, message: RegExp, instanceOf: typeof FormatError | typeof ConfigError = FormatError) =>
    t.throwsAsync(readAdapter(path), { instanceOf, message });
  await fails(join(adapters, 'dora'), /lora_magnitude_vector" is more than plain LoRA/);
  await fails(join(adapters, 'lora-bias'), /lora_B\.bias" is more than plain LoRA/);
  await fails(join(adapters, 'modules-to-save-norms'), /more than plain LoRA/);
  await fails(join(folder, 'none'), /no such file/);
  await fails(folder, /holds no LoRA adapter/);
  const save = async (name: string, tensors: Parameters<typeof saveSafetensors>[1]) => {
    await saveSafetensors(join(folder, name), tensors);
    return join(folder, name);
  };
  const { down, up } = pair();
  await fails(await save('half.safetensors', { 'unet.x.lora_A.weight': down }), /"x" has only one factor; the B \(up\) part is missing/);
  await fails(
    await save('fit.safetensors', { 'unet.x.lora_A.weight': down, 'unet.x.lora_B.weight': down }),
    /do not fit; got \[2, 4\] and \[2, 4\]/,
  );
  await fails(await save('dora.safetensors', { 'lora_unet_x.dora_scale': up }), /more than plain LoRA/);
  await fails(await save('bare.safetensors', { 'x.lora_a': down, 'x.lora_b': up }), /needs adapter_config.json/);
  writeFileSync(join(folder, 'adapter_config.json'), '{"fine_tune_type": "dora"}');
  await fails(join(folder, 'bare.safetensors'), /"fine_tune_type" must be "lora"; got "dora"/);
});

test('gguf: what the format has no place for is refused, and q and k of a llama need the base model', async (t) => {
  const head = await readAdapter(join(adapters, 'lm-head-tied'));
  const out = join(folder, 'refused.gguf');
  await t.throwsAsync(writeAdapter(head, 'gguf', out, { config }), {
    instanceOf: ConfigError,
    message: /tied, and gguf cannot adapt "lm_head" alone/,
  });
  await t.throwsAsync(writeAdapter(head, 'mlx', out, { config }), { instanceOf: ConfigError, message: /mlx cannot adapt "lm_head" alone/ });
  await t.throwsAsync(writeAdapter(head, 'mlx', out), { instanceOf: ConfigError, message: /the base model tells/ });
  const embedding = await readAdapter(join(adapters, 'embedding-tied'));
  await t.throwsAsync(writeAdapter(embedding, 'gguf', out, { config }), { instanceOf: ConfigError, message: /embed_tokens" alone/ });
  await t.throwsAsync(writeAdapter(head, 'gguf', out), { instanceOf: ConfigError, message: /needs the config of its base model/ });
  const plain = await readAdapter(join(adapters, 'plain'));
  await t.throwsAsync(writeAdapter(plain, 'gguf', out, { config: { ...config, model_type: 'gpt2' } }), { message: /no GGUF form/ });
  t.false(existsSync(out));
  await writeAdapter(plain, 'gguf', out, { config });
  await t.throwsAsync(readAdapter(out), { instanceOf: ConfigError, message: /interleaved order/ });
  t.deepEqual(
    readdirSync(folder).filter((name) => name.startsWith('.refused')),
    [],
  );
});
