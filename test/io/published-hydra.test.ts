import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { scope, type Tensor } from 'lorikeet';
import { tensor } from 'lorikeet/ops';
import { convertHydra } from '#dist/io/published-hydra.js';
import { loadSafetensors, saveSafetensors } from '#dist/io/safetensors.js';
import { temporaryFolder } from '../helpers/adapters.js';
import { noise } from '../helpers/tiny-network.js';

/** Writes a file with tensors of these shapes and converts it. */
async function convert(shapes: Record<string, readonly number[]>, options = {}, scales: Record<string, number> = {}) {
  const folder = temporaryFolder();
  const values: Record<string, Tensor> = {};
  for (const [i, [name, shape]] of Object.entries(shapes).entries()) values[name] = noise(shape, i);
  for (const [name, value] of Object.entries(scales)) values[name] = tensor([value]);
  const source = join(folder, 'published.safetensors');
  await saveSafetensors(source, values);
  const found = await convertHydra(source, join(folder, 'adapter'), options);
  const stored = await loadSafetensors(join(folder, 'adapter', 'adapter_model.safetensors'));
  const config = JSON.parse(readFileSync(join(folder, 'adapter', 'adapter_config.json'), 'utf8')) as Record<string, unknown>;
  const numbers = (of: ReadonlyMap<string, Tensor> | undefined, name: string): number[] =>
    scope(() => [...((of?.get(name) ?? values[name]) as Tensor).dataSync()] as number[]);
  return {
    found,
    config,
    names: [...stored.keys()].sort(),
    own: (name: string) => numbers(undefined, name),
    now: (name: string) => numbers(stored, name),
  };
}

const start = 'base_model.model.';

test('names of the ViT on VTAB-1K become those of the published model, its head is saved whole', async (t) => {
  const branch = (name: string, inputs: number, rank: number): Record<string, readonly number[]> => ({
    [`${name}.down_proj.weight`]: [rank, inputs],
    [`${name}.down_proj.bias`]: [rank],
    [`${name}.up_proj.weight`]: [6, rank],
    [`${name}.up_proj.bias`]: [6],
  });
  const { found, config, names, own, now } = await convert(
    {
      ...branch('blocks.1.attn.hydra_proj_par', 6, 2),
      ...branch('blocks.1.attn.hydra_proj_seq', 6, 3),
      ...branch('blocks.1.mlp.hydra_mlp_par', 12, 2),
      ...branch('blocks.1.mlp.hydra_mlp_seq', 6, 3),
      'head.weight': [5, 6],
      'head.bias': [5],
      'norm.weight': [6],
    },
    { scale: 4, baseModel: 'vit' },
  );
  t.deepEqual(found, { layout: 'vtab', rankParallel: 2, rankSequential: 3, left: ['norm.weight'] });
  t.like(config, { peft_type: 'HYDRA', r_parallel: 2, r_sequential: 3, scale: 4, hydra_bias: true, modules_to_save: ['classifier'] });
  t.deepEqual(config.target_modules, ['vit.encoder.layer.1.attention.output.dense', 'vit.encoder.layer.1.output.dense']);
  t.is(names.length, 18);
  t.true(names.includes(`${start}classifier.bias`));
  t.deepEqual(now(`${start}vit.encoder.layer.1.attention.output.dense.hydra_seq_B.bias`), own('blocks.1.attn.hydra_proj_seq.up_proj.bias'));
  t.deepEqual(now(`${start}vit.encoder.layer.1.output.dense.hydra_par_A.weight`), own('blocks.1.mlp.hydra_mlp_par.down_proj.weight'));
});

test('names of RoBERTa on GLUE lie on the dense layer of the output, without biases', async (t) => {
  const output = 'roberta.encoder.layer.0.output';
  const { found, config, names } = await convert({
    [`${output}.hydra_par.hydra_A.weight`]: [4, 12],
    [`${output}.hydra_par.hydra_B.weight`]: [6, 4],
    [`${output}.hydra_seq.hydra_A.weight`]: [8, 6],
    [`${output}.hydra_seq.hydra_B.weight`]: [6, 8],
  });
  t.is(found.layout, 'glue');
  t.like(config, { r_parallel: 4, r_sequential: 8, scale: 1, hydra_bias: false, modules_to_save: null });
  t.deepEqual(
    names,
    ['par_A', 'par_B', 'seq_A', 'seq_B'].map((end) => `${start}${output}.dense.hydra_${end}.weight`),
  );
});

test('learned scales of ELEVATER go into the up-projections of their branch', async (t) => {
  const layer = 'visual.transformer.resblocks.2.mlp.ad_lin';
  const { found, names, own, now } = await convert(
    {
      [`${layer}.linear.weight`]: [6, 12],
      [`${layer}.adapter_par.down_proj.weight`]: [2, 12],
      [`${layer}.adapter_par.up_proj.weight`]: [6, 2],
      [`${layer}.adapter_seq.down_proj.weight`]: [2, 6],
      [`${layer}.adapter_seq.up_proj.weight`]: [6, 2],
    },
    { rename: (path: string) => `clip.${path}` },
    { [`${layer}.adapter_par.scale`]: 2, [`${layer}.adapter_seq.scale`]: 0.5 },
  );
  t.deepEqual(found.left, [`${layer}.linear.weight`]);
  const path = `${start}clip.vision_model.encoder.layers.2.mlp.fc2.hydra_`;
  t.is(names.length, 4);
  t.deepEqual(
    now(`${path}par_B.weight`),
    own(`${layer}.adapter_par.up_proj.weight`).map((value) => 2 * value),
  );
  t.deepEqual(
    now(`${path}seq_B.weight`),
    own(`${layer}.adapter_seq.up_proj.weight`).map((value) => value / 2),
  );
  t.deepEqual(now(`${path}seq_A.weight`), own(`${layer}.adapter_seq.down_proj.weight`));
});

test('a file without tensors of Hydra is an error', async (t) => {
  await t.throwsAsync(convert({ 'blocks.0.attn.proj.weight': [2, 2] }), {
    code: 'format',
    message: /no tensor is called as in the published files of Hydra/,
  });
});
