// Methods that sit around a block of layers rather than on a linear one: the shape of bottleneck adapters.
import test from 'ava';
import {
  type AdapterMethod,
  AdapterModule,
  attach,
  attachMethod,
  type CommonConfig,
  commonDefaults,
  type LayerCall,
  type Tensor,
} from 'lorikeet';
import { add, linear, relu, uniform, zeros } from 'lorikeet/ops';
import { scope } from '#dist/scope.js';
import { loadTiny, logitsOf, relativeError, sameBits } from '../helpers/adapters.js';
import { perturb } from '../helpers/perturb.js';

const ids = [3, 17, 42, 5, 8, 80];
const kWidth = 32;

/** y + U relu(D y) after a block. */
class Bottleneck extends AdapterModule {
  down: Tensor;
  up: Tensor;
  readonly changesInput: boolean;

  constructor(rank: number, stream: number, changesInput: boolean) {
    super();
    this.down = uniform([rank, kWidth], { low: -0.2, high: 0.2, stream }).setRequiresGrad(true);
    this.up = zeros([kWidth, rank]).setRequiresGrad(true);
    this.changesInput = changesInput;
  }

  override forward({ x, next }: LayerCall): Tensor {
    const y = next(this.changesInput ? add(x, 0) : x);
    return add(y, linear(relu(linear(y, this.down)), this.up));
  }
}

interface BottleneckConfig extends CommonConfig {
  rank: number;
  changesInput: boolean;
}

const bottleneck: AdapterMethod<'bottleneck', BottleneckConfig> = {
  name: 'bottleneck',
  prefix: 'bottleneck',
  defaults: { ...commonDefaults, rank: 4, changesInput: false },
  check: () => {},
  roles: ['mlp', 'attention'],
  kinds: ['other'],
  create: ({ path }, { rank, changesInput }, { stream }) => new Bottleneck(rank, stream(path, 'down'), changesInput),
};

test.serial('an adapter around blocks starts as the identity, trains and comes off', async (t) => {
  const model = await loadTiny();
  const base = await logitsOf(model, ids);
  const tuned = await attachMethod(model, bottleneck);
  t.deepEqual(
    tuned.table().map(({ path }) => path),
    ['model.layers.0.self_attn', 'model.layers.0.mlp', 'model.layers.1.self_attn', 'model.layers.1.mlp'],
  );
  t.true(sameBits(await logitsOf(tuned, ids), base));
  perturb(tuned);
  t.true(relativeError(await logitsOf(tuned, ids), base) > 0.01);
  scope(() => tuned.loss({ ids: [ids], training: true }).backward());
  for (const [name, value] of tuned.namedParameters()) t.truthy(value.grad, name);
  await t.throwsAsync(tuned.merge(), {
    code: 'adapter',
    message: /"model\.layers\.0\.self_attn" \(Bottleneck\) cannot be folded into weights/,
  });
  tuned.dispose();
  t.true(sameBits(await logitsOf(model, ids), base));
  model.dispose();
});

test.serial('rows with adapters around blocks, inside them, both and none keep their bits', async (t) => {
  const model = await loadTiny();
  await attachMethod(model, bottleneck, {}, { name: 'around', seed: 1 });
  const tuned = await attach(model, { type: 'lora', targets: 'all-linear' }, { name: 'inside', seed: 2 });
  for (const name of tuned.names) {
    tuned.activate(name);
    perturb(tuned);
  }
  const rows = [['around'], ['inside'], [], ['around', 'inside'], ['inside', 'around']];
  const run = (chosen: readonly number[]): Promise<Float32Array> =>
    scope(
      async () =>
        (await tuned
          .logits(
            chosen.map(() => ids),
            { rows: chosen.map((row) => rows[row] as string[]) },
          )
          .data()) as Float32Array,
    );
  const together = await run([0, 1, 2, 3, 4]);
  const size = together.length / rows.length;
  for (const [row, names] of rows.entries()) {
    const mine = together.slice(row * size, (row + 1) * size);
    t.true(sameBits(await run([row]), mine), `row ${row}`);
    tuned.activate(names);
    t.true(sameBits(await logitsOf(tuned, ids), mine), `active ${names.join() || 'none'}`);
  }
  tuned.dispose();
  model.dispose();
});

test.serial('an adapter that changes what goes into a block works for whole batches, not for single rows', async (t) => {
  const model = await loadTiny();
  const tuned = await attachMethod(model, bottleneck, { changesInput: true });
  perturb(tuned);
  t.notThrows(() => scope(() => tuned.logits([ids])));
  t.throws(() => scope(() => tuned.logits([ids, ids], { rows: [['default'], []] })), {
    code: 'adapter',
    message: /cannot change the input of the block/,
  });
  tuned.dispose();
  model.dispose();
});
