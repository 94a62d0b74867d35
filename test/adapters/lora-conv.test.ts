// LoRA on convolutions against PEFT: test/golden/lora-conv (scripts/golden/conv.py).
import { join } from 'node:path';
import test from 'ava';
import type { AdapterSet } from '#dist/adapters/adapter-set.js';
import { attach } from '#dist/adapters/index.js';
import { readPeftFolder, savePeftFolder } from '#dist/io/peft.js';
import { loadSafetensors } from '#dist/io/safetensors.js';
import type { Module } from '#dist/nn/index.js';
import { normal } from '#dist/ops/create.js';
import { sum } from '#dist/ops/reduce.js';
import { copyInto } from '#dist/ops/shape.js';
import { noGrad, scope } from '#dist/scope.js';
import type { Tensor } from '#dist/tensor.js';
import { golden, relativeError, sameBits, temporaryFolder } from '../helpers/adapters.js';
import { ConvNetwork } from '../helpers/conv-network.js';

const folder = join(golden, 'lora-conv');
const base = await loadSafetensors(join(folder, 'base.safetensors'));
const x = base.get('x') as Tensor;
const numbers = (value: Tensor): Float32Array => value.dataSync() as Float32Array;

async function network(): Promise<ConvNetwork> {
  const made = new ConvNetwork();
  for (const [name, value] of await loadSafetensors(join(folder, 'model.safetensors'))) {
    const at = name.lastIndexOf('.');
    made.module(name.slice(0, at)).assign(name.slice(at + 1), value);
  }
  made.freeze();
  return made;
}

/** PEFT's adapter on a network. */
async function loaded(on: Module, name: string): Promise<AdapterSet> {
  const { config, tensors } = await readPeftFolder(join(folder, name));
  const set = await attach(on, { type: 'lora', ...config.config } as never);
  const own = new Map(set.namedParameters());
  for (const [key, value] of tensors) noGrad(() => copyInto(own.get(key) as Tensor, value));
  if (own.size !== tensors.size) throw new Error(`${name}: ${own.size} tensors, the file has ${tensors.size}`);
  return set;
}

test('the tiny network computes what torch does', async (t) => {
  const net = await network();
  t.true(relativeError(numbers(net.forward(x)), numbers(base.get('y') as Tensor)) < 1e-6);
  net.dispose();
});

for (const name of ['plain', 'groups']) {
  test.serial(`${name}: computes what PEFT computes with its file, and writes the same names, shapes and values`, async (t) => {
    const net = await network();
    const set = await loaded(net, name);
    const expected = await loadSafetensors(join(folder, name, 'expected.safetensors'));
    t.true(relativeError(numbers(net.forward(x)), numbers(expected.get('y') as Tensor)) < 1e-6);
    const written = join(temporaryFolder(), name);
    await savePeftFolder(written, set.get('default'), net);
    const [ours, theirs] = await Promise.all(
      [written, join(folder, name)].map((at) => loadSafetensors(join(at, 'adapter_model.safetensors'))),
    );
    t.deepEqual([...(ours?.keys() ?? [])].sort(), [...(theirs?.keys() ?? [])].sort());
    for (const [key, value] of theirs ?? []) {
      t.deepEqual(ours?.get(key)?.shape, value.shape, key);
      t.true(sameBits(numbers(ours?.get(key) as Tensor), numbers(value)), key);
    }
    net.dispose();
  });
}

test.serial('merging gives the weights of PEFT, and unmerging the bits from before', async (t) => {
  const net = await network();
  const { stem, point, along } = net;
  const before = numbers(stem.weight);
  const set = await loaded(net, 'plain');
  const adapted = numbers(net.forward(x));
  const report = await set.merge();
  t.true(report.maxError < 1e-5);
  t.deepEqual(
    report.layers.map(({ path }) => path),
    ['stem', 'point', 'along'],
  );
  const expected = await loadSafetensors(join(folder, 'plain', 'expected.safetensors'));
  for (const [layer, { weight }] of Object.entries({ stem, point, along }))
    t.true(relativeError(numbers(weight), numbers(expected.get(`merged.${layer}.weight`) as Tensor)) < 1e-6, layer);
  t.true(relativeError(numbers(net.forward(x)), adapted) < 1e-5);
  set.unmerge();
  t.true(sameBits(numbers(stem.weight), before));
  net.dispose();
});

test.serial('a convolution in groups is not merged, and nothing changes', async (t) => {
  const net = await network();
  const set = await loaded(net, 'groups');
  const adapted = numbers(net.forward(x));
  await t.throwsAsync(set.merge(), {
    code: 'adapter',
    message: /convolution in groups cannot be folded into it; got 8 groups, expected 1/,
  });
  t.true(sameBits(numbers(net.forward(x)), adapted));
  net.dispose();
});

test.serial('starts as the identity, and an empty entry is the bare network in a batch by rows', async (t) => {
  const net = await network();
  const bare = numbers(net.forward(x));
  const set = await attach(net, { type: 'lora', targets: { roles: ['conv'] }, rank: 8 });
  t.deepEqual([...new Set(set.table().map(({ path }) => path))], ['stem', 'depthwise', 'point', 'along']);
  t.true(sameBits(numbers(net.forward(x)), bare));
  for (const value of set.parameters()) noGrad(() => copyInto(value, normal(value.shape, { seed: 3, std: 0.3 })));
  const adapted = numbers(net.forward(x));
  const rows = numbers(net.forward(x, { training: false, rows: [['default'], []] }));
  const half = bare.length / 2;
  t.true(sameBits(rows.slice(0, half), adapted.slice(0, half)));
  t.true(sameBits(rows.slice(half), bare.slice(half)));
  t.true(relativeError(adapted, bare) > 1e-2);
  net.dispose();
});

test.serial('gradients go to the factors alone', async (t) => {
  const net = await network();
  const set = await attach(net, { type: 'lora', targets: ['stem', 'along'], rank: 2, dropout: 0.2, init: false });
  scope(() => sum(net.forward(x, { training: true })).backward());
  for (const value of set.parameters()) t.truthy(value.grad);
  t.is(net.trainableParameters().length, 0);
  net.dispose();
});

test.serial('what a convolution cannot have is refused', async (t) => {
  const net = await network();
  const given = { type: 'lora', targets: ['depthwise'] } as const;
  await t.throwsAsync(attach(net, { ...given, rank: 4 }), {
    code: 'config',
    message: /rank must be a multiple of the groups.*got rank 4 for "depthwise" with 8 groups/,
  });
  await t.throwsAsync(attach(net, { ...given, dora: true }), { code: 'config', message: /dora is not available for convolutions/ });
  await t.throwsAsync(attach(net, { ...given, init: 'orthogonal' }), {
    code: 'config',
    message: /"orthogonal" is not available for convolutions/,
  });
  net.dispose();
});
