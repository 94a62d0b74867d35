// What the branches of MoSA compute: a learned scale, the form of Swin, and that merged ones are plain adapters.
import { join } from 'node:path';
import test from 'ava';
import { attach, loadAdapter, profile, scope, type TunedModel } from 'lorikeet';
import { type ForwardContext, inference, Layer, Linear, Module, ModuleList, sublayer } from 'lorikeet/nn';
import { add, mul, normal, tensor } from 'lorikeet/ops';
import type { BottleneckBranch, SublayerBranches } from '#dist/adapters/sublayer-bottleneck.js';
import { copyInto } from '#dist/ops/shape.js';
import { RandomSource } from '#dist/random.js';
import { noGrad } from '#dist/scope.js';
import type { Tensor } from '#dist/tensor.js';
import { loadTiny, logitsOf, relativeError, sameBits, temporaryFolder } from '../helpers/adapters.js';
import { mosaConfig, mosaStyles } from '../helpers/mosa.js';
import { perturb } from '../helpers/perturb.js';

const ids = [3, 17, 42, 5, 8, 80];
const numbersOf = (x: Tensor): Float32Array => Float32Array.from(x.dataSync() as Float32Array);
const mlpOf = ({ module }: { readonly module: unknown }): BottleneckBranch =>
  (module as SublayerBranches<BottleneckBranch>).adapter_mlp as BottleneckBranch;

test.serial('a learned scale starts at 1, is trained, saved, and multiplies the branch', async (t) => {
  const model = await loadTiny();
  const tuned = await attach(model, mosaConfig('adaptformer', { scale: 'learned', dropout: 0 }), { seed: 3 });
  const scales = tuned.adapters.get('default').placements.map((placement) => mlpOf(placement).scale as Tensor);
  t.deepEqual(
    scales.map((scale) => [...numbersOf(scale)]),
    scales.map(() => [1]),
  );
  perturb(tuned);
  scope(() => tuned.loss({ ids: [ids], training: true }).backward());
  t.true(scales.every((scale) => numbersOf(scale.grad as Tensor)[0] !== 0));
  const folder = join(temporaryFolder(), 'learned');
  await tuned.save(folder);
  const adapted = await logitsOf(tuned, ids);
  const values = scales.map(numbersOf);
  scope(() => noGrad(() => scales.map((scale) => copyInto(scale, mul(scale, 2)))));
  const stronger = await logitsOf(tuned, ids);
  t.false(sameBits(stronger, adapted));
  scope(() => noGrad(() => scales.map((scale, i) => copyInto(scale, tensor(values[i] as Float32Array)))));
  tuned.adapters.setScale('default', 2);
  t.true(relativeError(await logitsOf(tuned, ids), stronger) < 1e-6);
  tuned.dispose();

  const deployed = await loadAdapter(model, folder);
  t.like(deployed.adapters.get('default').config, { scale: 'learned', experts: 1 });
  t.true(sameBits(await logitsOf(deployed, ids), adapted));
  deployed.dispose();
  model.dispose();
});

test.serial('saved, it runs the ops of the plain adapter on the same shapes, to the same bits for the same values', async (t) => {
  const model = await loadTiny();
  for (const style of mosaStyles) {
    const folder = join(temporaryFolder(), 'merged');
    const tuned = await attach(model, mosaConfig(style), { seed: 3 });
    perturb(tuned);
    await tuned.save(folder);
    tuned.dispose();
    const opsOf = async (adapted: TunedModel): Promise<{ logits: Float32Array; ops: unknown[] }> => {
      await logitsOf(adapted, ids);
      const { result, ops } = await profile(() => logitsOf(adapted, ids));
      return { logits: result, ops: ops.map(({ name, inputs, outputs }) => ({ name, inputs, outputs })) };
    };
    const merged = await loadAdapter(model, folder);
    const numbers = merged.parameters().map(numbersOf);
    const own = await opsOf(merged);
    merged.dispose();
    const plain = await attach(model, style === 'lora' ? { type: 'lora', rank: 8, alpha: 8 } : mosaConfig(style, { experts: 1 }));
    const parameters = plain.parameters();
    t.deepEqual(
      parameters.map(({ size }) => size),
      numbers.map(({ length }) => length),
    );
    scope(() => noGrad(() => parameters.map((value, i) => copyInto(value, tensor(numbers[i] as Float32Array, { shape: value.shape })))));
    const other = await opsOf(plain);
    t.deepEqual(own.ops, other.ops, style);
    t.true(own.ops.length > 10);
    t.true(sameBits(own.logits, other.logits), style);
    plain.dispose();
  }
  model.dispose();
});

/** Stages of blocks that become wider, as in Swin. */
class Stages extends Module {
  readonly layers = new ModuleList([8, 16].map((width) => new Stage(width)));
}

class Stage extends Layer {
  readonly query: Linear;

  constructor(width: number) {
    super('block');
    this.query = new Linear(width, width, { role: 'attention.query' });
  }

  override forward(x: Tensor, context: ForwardContext = inference): Tensor {
    const normed = mul(x, 0.5);
    return add(
      x,
      sublayer('mlp', { residual: x, input: normed, context }, (input) => this.query.forward(input)),
    );
  }
}

test.serial('the form of Swin reads what the MLP reads, at the width of each stage', async (t) => {
  const network = new Stages();
  const set = await attach(network, { type: 'mosa', style: 'swin', bottleneckSize: 4, experts: 2 }, { seed: 1 });
  const branches = set.get('default').placements.map(mlpOf);
  t.true(branches.every(({ norm }) => norm === undefined));
  perturb(set);
  for (const [i, width] of [8, 16].entries()) {
    const x = normal([2, 3, width], { seed: 4 });
    const block = network.layers.at(i) as Layer;
    const [own, expected] = scope(() =>
      noGrad(() => {
        const pass = { training: false, random: new RandomSource(1) };
        const adapted = numbersOf(block.forward(x));
        set.disable();
        const base = block.forward(x);
        set.enable();
        return [adapted, numbersOf(add(base, (branches[i] as BottleneckBranch).forward(mul(x, 0.5), pass)))];
      }),
    ) as [Float32Array, Float32Array];
    t.true(relativeError(own, expected) < 1e-6);
  }
  set.dispose();
  network.dispose();
});
