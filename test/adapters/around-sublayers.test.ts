// Methods that go around attention and MLP of a block, whatever its modules are called.
import test from 'ava';
import { type AdapterMethod, AdapterModule, attach, attachMethod, type CommonConfig, commonDefaults, type Tensor } from 'lorikeet';
import type { SublayerCall, SublayerPoint } from 'lorikeet/nn';
import { add, linear, relu, uniform, zeros } from 'lorikeet/ops';
import { scope } from '#dist/scope.js';
import { loadTiny, logitsOf, relativeError, sameBits } from '../helpers/adapters.js';
import { perturb } from '../helpers/perturb.js';

const ids = [3, 17, 42, 5, 8, 80];
const kWidth = 32;

type Source = 'input' | 'residual' | 'output';

/** What a sub-layer gives plus U relu(D z), with z what it reads, its stream, or its result. */
class Around extends AdapterModule {
  down: Tensor;
  up: Tensor;
  readonly point: SublayerPoint;
  readonly source: Source;

  constructor(point: SublayerPoint, source: Source, stream: number) {
    super();
    this.down = uniform([4, kWidth], { low: -0.2, high: 0.2, stream }).setRequiresGrad(true);
    this.up = zeros([kWidth, 4]).setRequiresGrad(true);
    this.point = point;
    this.source = source;
  }

  override sublayer({ point, input, residual, next }: SublayerCall): Tensor {
    const y = next(input);
    if (point !== this.point) return y;
    const z = { input, residual, output: y }[this.source];
    return add(y, linear(relu(linear(z, this.down)), this.up));
  }
}

interface AroundConfig extends CommonConfig {
  point: SublayerPoint;
  source: Source;
}

const around: AdapterMethod<'around', AroundConfig> = {
  name: 'around',
  prefix: 'around',
  defaults: { ...commonDefaults, point: 'mlp', source: 'input' },
  check: () => {},
  roles: ['block'],
  kinds: ['other'],
  create: ({ path }, { point, source }, { stream }) => new Around(point, source, stream(path, 'down')),
};

for (const point of ['attention', 'mlp'] as const) {
  for (const source of ['input', 'residual', 'output'] as const) {
    test.serial(`around ${point}, of its ${source}: identity at first, trains, comes off`, async (t) => {
      const model = await loadTiny();
      const base = await logitsOf(model, ids);
      const tuned = await attachMethod(model, around, { point, source });
      t.deepEqual(
        tuned.table().map(({ path }) => path),
        ['model.layers.0', 'model.layers.1'],
      );
      t.true(sameBits(await logitsOf(tuned, ids), base));
      perturb(tuned);
      t.true(relativeError(await logitsOf(tuned, ids), base) > 1e-3);
      const plain = scope(() => tuned.loss({ ids: [ids], training: true }).item());
      const again = scope(() => tuned.loss({ ids: [ids], training: true, checkpointing: true }));
      t.is(await again.item(), await plain);
      again.backward();
      for (const [name, value] of tuned.namedParameters()) t.truthy(value.grad, name);
      tuned.dispose();
      t.true(sameBits(await logitsOf(model, ids), base));
      model.dispose();
    });
  }
}

test.serial('what is around the MLP sees the stream that the attention was added to', async (t) => {
  const model = await loadTiny();
  const byInput = await attachMethod(model, around, { source: 'input' }, { name: 'input', seed: 1 });
  const byResidual = await attachMethod(model, around, { source: 'residual' }, { name: 'residual', seed: 1 });
  perturb(byInput);
  perturb(byResidual);
  byInput.activate('input');
  const first = await logitsOf(byInput, ids);
  byInput.activate('residual');
  t.false(sameBits(await logitsOf(byInput, ids), first));
  model.dispose();
});

test.serial('rows with adapters around sub-layers, inside blocks, both and none keep their bits', async (t) => {
  const model = await loadTiny();
  await attachMethod(model, around, { source: 'residual' }, { name: 'around', seed: 1 });
  const tuned = await attach(model, { type: 'lora', targets: 'all-linear' }, { name: 'inside', seed: 2 });
  tuned.activate(['around', 'inside']);
  perturb(tuned);
  const rows = [['around'], ['inside'], ['around', 'inside'], []];
  const alone: Float32Array[] = [];
  for (const names of rows) {
    tuned.activate(names);
    alone.push(await logitsOf(tuned, ids));
  }
  const together = await scope(
    async () =>
      (await tuned
        .logits(
          rows.map(() => ids),
          { rows },
        )
        .data()) as Float32Array,
  );
  const size = together.length / rows.length;
  for (const [row, expected] of alone.entries())
    t.true(sameBits(together.subarray(row * size, (row + 1) * size), expected), String(rows[row]));
  model.dispose();
});

test.serial('generation with a cache goes through it too', async (t) => {
  const model = await loadTiny();
  const tuned = await attachMethod(model, around, { point: 'attention', source: 'output' });
  perturb(tuned);
  const whole = await logitsOf(tuned, ids);
  const vocabulary = whole.length / ids.length;
  const cached = await scope(async () => {
    const cache = tuned.cache(1, 16);
    tuned.forward([ids.slice(0, -1)], { cache, training: false });
    const last = tuned.forward([ids.slice(-1)], { cache, training: false });
    return (await tuned.head(last, { training: false }).data()) as Float32Array;
  });
  t.true(relativeError(cached, whole.slice(-vocabulary)) < 1e-5);
  model.dispose();
});

test.serial('such a module on a layer without sub-layers is an error', async (t) => {
  const model = await loadTiny();
  await t.throwsAsync(attachMethod(model, around, { targets: ['mlp'] }), {
    code: 'adapter',
    message: /goes around the sub-layers of a block; got a layer of role mlp/,
  });
  model.dispose();
});
