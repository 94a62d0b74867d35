import test, { type ExecutionContext } from 'ava';
import { Calibration, type CalibrationBatch, type CalibrationRuns } from '#dist/inits/calibration.js';
import type { GradientOptions } from '#dist/inits/gradient-sums.js';
import { observing } from '#dist/inits/observe.js';
import { weightGradients } from '#dist/inits/weight-gradients.js';
import { Linear, Module } from '#dist/nn/index.js';
import { tensor } from '#dist/ops/create.js';
import { cast, mul, relu, square } from '#dist/ops/elementwise.js';
import { logitsCrossEntropy } from '#dist/ops/loss.js';
import { sum } from '#dist/ops/reduce.js';
import { memory, resetPeakMemory, scope, synchronize } from '#dist/scope.js';
import type { DType, Tensor } from '#dist/tensor.js';
import { loadTiny, relativeError } from '../helpers/adapters.js';
import { contextOf, startLayers } from '../helpers/init-context.js';
import { settledTensors } from '../helpers/settled-bytes.js';
import { kVocabulary, noise, TinyNetwork } from '../helpers/tiny-network.js';

type Values = Float32Array | Float64Array;

/** Ragged rows; an ignored target; two documents in a row. */
const kBatches: CalibrationBatch[] = [
  [
    [3, 17, 42, 5, 8, 80, 12, 9],
    [7, 7, 30],
  ],
  { ids: [[61, 2, 44, 10, 11]], targets: [[2, -100, 10, -100, 9]] },
  { ids: [[3, 17, 42, 5, 8, 80]], documents: [[0, 0, 0, 1, 1, 1]] },
];
const inputOf = (batch: CalibrationBatch) => ('ids' in batch ? batch : { ids: batch });

async function collect(
  network: Module,
  data: Calibration,
  options: GradientOptions = { reduce: 'mean' },
  dtype: DType = 'f32',
): Promise<Map<string, Values>> {
  const found = new Map<string, Values>();
  for await (const { path, gradient } of weightGradients(startLayers(network), contextOf(network, data, { dtype }), options)) {
    found.set(path, (await gradient.data()) as Values);
    gradient.dispose();
  }
  return found;
}

/** The gradients that an unfrozen network collects in its own weights, added up. */
function collectUnfrozen<Batch>(network: Module, loss: (batch: Batch) => Tensor, batches: readonly Batch[]): Map<string, Values> {
  network.unfreeze().train();
  for (const batch of batches) scope(() => loss(batch).backward());
  return new Map(
    startLayers(network).map(({ path, layer }) => [path, scope(() => (layer.weight as Tensor).grad?.dataSync() as Values)] as const),
  );
}

function compare(t: ExecutionContext, mine: Map<string, Values>, theirs: Map<string, Values>, factor: number, tolerance: number): void {
  t.deepEqual([...mine.keys()], [...theirs.keys()]);
  for (const [path, expected] of theirs) {
    const error = relativeError(
      mine.get(path) as Values,
      expected.map((value) => value * factor),
    );
    t.true(error < tolerance, `${path}: ${error}`);
  }
}

for (const base of ['llama-gqa-tied', 'llama-biases-untied', 'mistral-sliding', 'qwen2-tied', 'qwen3-head-dim']) {
  test.serial(`${base}: the gradients of frozen weights are those of an unfrozen copy`, async (t) => {
    const [model, copy] = [await loadTiny(`models/${base}`), await loadTiny(`models/${base}`)];
    const data = Calibration.of(kBatches, model);
    const recomputed = new Calibration({
      batches: kBatches,
      forward: () => undefined,
      loss: (batch) => model.loss({ ...inputOf(batch as CalibrationBatch), checkpointing: true }),
    });
    const theirs = collectUnfrozen(copy.network, (batch) => copy.loss(inputOf(batch)), kBatches);
    compare(t, await collect(model.network, data), theirs, 1 / kBatches.length, 1e-5);
    compare(t, await collect(model.network, data, { reduce: 'sum', groupBytes: 1 }), theirs, 1, 1e-5);
    compare(t, await collect(model.network, recomputed), theirs, 1 / kBatches.length, 1e-5);
    t.true([...model.network.namedParameters()].every(([, value]) => !('grad' in value) || value.grad === undefined));
    model.dispose();
    copy.dispose();
  });
}

test.serial('in a network of f64 the sums are f64', async (t) => {
  const ids = [tensor([[1, 2, 3, 4]], { dtype: 'i64' }), tensor([[5, 6, 7, 8]], { dtype: 'i64' })];
  const targets = tensor([[2, 3, 4, kVocabulary - 1]], { dtype: 'i64' });
  const network = new TinyNetwork('f64');
  const loss = (batch: Tensor): Tensor => logitsCrossEntropy(network.forward(batch), targets);
  const runs = { batches: ids, forward: (batch: Tensor) => network.forward(batch), loss };
  const mine = await collect(network, new Calibration(runs as CalibrationRuns), { reduce: 'mean' }, 'f64');
  compare(t, mine, collectUnfrozen(network, loss, ids), 0.5, 1e-12);
});

class Chain extends Module {
  first: Linear;
  second: Linear;
  unused: Linear;

  constructor(width: number, dtype: DType = 'f32') {
    super();
    const options = { bias: false, dtype } as const;
    this.first = new Linear(width, width, { ...options, seed: 1 });
    this.second = new Linear(width, width, { ...options, seed: 2 });
    this.unused = new Linear(width, width, { ...options, seed: 3 });
    this.freeze();
  }

  /** The first layer runs twice. */
  forward(x: Tensor): Tensor {
    return this.second.forward(relu(this.first.forward(relu(this.first.forward(x)))));
  }
}

const used = (network: Chain) => startLayers(network).filter(({ path }) => path !== 'unused');
const runsOf = (network: Chain, batches: Iterable<Tensor>, loss = (x: Tensor): Tensor => sum(square(network.forward(x)))): Calibration =>
  new Calibration({ batches, forward: (x: Tensor) => network.forward(x), loss } as CalibrationRuns);

test.serial('a layer that runs twice has the gradients of both; bf16 networks are summed in f32', async (t) => {
  const network = new Chain(16);
  const x = noise([6, 16], 1);
  const copy = new Chain(16);
  copy.unfreeze();
  scope(() => sum(square(copy.forward(x))).backward());
  for await (const { path, gradient } of weightGradients(used(network), contextOf(network, runsOf(network, [x])), { reduce: 'mean' })) {
    const expected = (copy.module(path) as Linear).weight as Tensor;
    t.true(relativeError((await gradient.data()) as Values, (await expected.grad?.data()) as Values) < 1e-5);
  }

  // dy = c and x are numbers of bf16, so that the sum over many batches is known exactly.
  const halves = new Chain(16, 'bf16');
  const batches = Array.from({ length: 40 }, (_, i) => cast(noise([4, 16], i), 'bf16'));
  const factors = cast(noise([4, 16], 99), 'bf16');
  const data = runsOf(halves, batches, (batch) => sum(mul(cast(halves.second.forward(batch), 'f32'), cast(factors, 'f32'))));
  const second = startLayers(halves).filter(({ path }) => path === 'second');
  for await (const { gradient } of weightGradients(second, contextOf(halves, data), { reduce: 'sum' })) {
    t.is(gradient.dtype, 'f32');
    const c = factors.dataSync() as Values;
    const total = batches.reduce((so, batch) => {
      const values = batch.dataSync() as Values;
      return so.map((old, at) =>
        [0, 1, 2, 3].reduce((g, row) => g + (c[16 * row + (at >> 4)] ?? 0) * (values[16 * row + (at & 15)] ?? 0), old),
      );
    }, new Float64Array(256));
    t.true(relativeError((await gradient.data()) as Values, total) < 1e-6);
  }
});

test.serial('groups go through the batches again, which are read once; progress counts both', async (t) => {
  const network = new Chain(16);
  const counts = { read: 0, run: 0 };
  const batches = (function* () {
    for (let i = 0; ; i++) {
      counts.read++;
      yield noise([2, 16], i);
    }
  })();
  const data = runsOf(network, batches, (x) => {
    counts.run++;
    return sum(network.forward(x));
  });
  const seen: string[] = [];
  const context = contextOf(network, data, { onProgress: ({ done, total }) => seen.push(`${done}/${total}`) });
  const order: string[] = [];
  for await (const { path } of weightGradients(used(network), context, { batches: 3, groupBytes: 16 * 16 * 4, reduce: 'mean' }))
    order.push(path);
  t.deepEqual(counts, { read: 3, run: 6 });
  t.deepEqual(seen, ['1/6', '2/6', '3/6', '4/6', '5/6', '6/6']);
  t.deepEqual(order, ['first', 'second']);
});

test.serial('the network is left as it was, also by an error and by a reader that stops', async (t) => {
  const network = new Chain(16);
  network.second.training = true;
  const x = noise([2, 16], 1);
  const modes: boolean[] = [];
  const data = runsOf(network, [x], (batch) => {
    modes.push(network.training);
    return sum(network.forward(batch));
  });
  const before = [network.first, network.second];
  const tensors = await settledTensors();
  for await (const { gradient } of weightGradients(used(network), contextOf(network, data), { reduce: 'mean' })) {
    gradient.dispose();
    break;
  }
  const broken = runsOf(network, [x], () => {
    throw new RangeError('no loss today');
  });
  await t.throwsAsync(collect(network, broken), { instanceOf: RangeError });
  await t.throwsAsync(collect(network, data), { code: 'config' });
  t.deepEqual(modes, [true, true]);
  t.deepEqual([network.training, network.first.training, network.second.training], [false, false, true]);
  t.true(before.every((layer, i) => layer === [network.first, network.second][i]));
  t.is(memory().tensors, tensors);
});

test.serial('what cannot work is an error that says what', async (t) => {
  const network = new Chain(16);
  const x = noise([2, 16], 1);
  await t.throwsAsync(collect(network, runsOf(network, [x])), {
    code: 'config',
    message: /"unused" got none in 1 batches: the loss does not depend on it/,
  });
  const constant = sum(noise([2], 1));
  await t.throwsAsync(
    collect(
      network,
      runsOf(network, [x], () => constant),
    ),
    { code: 'config', message: /"first" got none/ },
  );
  await t.throwsAsync(collect(network, runsOf(network, [])), { code: 'invalid-argument', message: /hold no batch/ });
  await t.throwsAsync(collect(network, runsOf(network, [x]), { reduce: 'mean', batches: 0 }), {
    code: 'invalid-argument',
    message: /got 0/,
  });
  await t.throwsAsync(collect(network, new Calibration({ batches: [x], forward: () => undefined })), {
    code: 'config',
    message: /expected data with a "loss"/,
  });
  const noData = contextOf(network, undefined as never);
  await t.throwsAsync(weightGradients(used(network), noData, { reduce: 'sum' }).next(), { code: 'config', message: /no data/ });
  const aborted = contextOf(network, runsOf(network, [x]), { signal: AbortSignal.abort('enough') });
  await t.throwsAsync(weightGradients(used(network), aborted, { reduce: 'sum' }).next(), { code: 'cancelled' });

  const bad = tensor(Array.from({ length: 2 }, () => [Infinity, ...new Array(15).fill(1)]));
  const data = runsOf(network, [bad], (batch) => sum(network.second.forward(batch)));
  const second = startLayers(network).filter(({ path }) => path === 'second');
  await t.throwsAsync(weightGradients(second, contextOf(network, data), { reduce: 'sum' }).next(), {
    code: 'non-finite',
    message: /that of "second" is not finite; got 16 of 256 elements/,
  });
});

test.serial('beside the activations: the sums of a group, and less than one gradient', async (t) => {
  const width = 1024;
  const network = new Chain(width);
  const rows = Array.from({ length: 3 }, (_, i) => noise([64, width], i));
  const data = runsOf(network, rows);
  const paths = used(network).map(({ path }) => path);
  await collect(
    network,
    runsOf(network, rows, (x) => sum(network.unused.forward(network.forward(x)))),
  );
  const peakOf = async (work: () => Promise<unknown>): Promise<number> => {
    await synchronize();
    const before = memory().bytes;
    resetPeakMemory();
    await work();
    return memory().peakBytes - before;
  };
  const activations = await peakOf(() =>
    observing(network, paths, { onGradient: () => {} }, async () => {
      scope(() => data.loss(rows[0]).backward());
      await synchronize();
    }),
  );
  const weight = 4 * width * width;
  const peak = async (groupBytes: number): Promise<number> =>
    peakOf(async () => {
      for await (const { gradient } of weightGradients(used(network), contextOf(network, data), { reduce: 'mean', groupBytes }))
        gradient.dispose();
    });
  const [one, two] = [await peak(weight), await peak(2 * weight)];
  t.log({ activations, one, two, weight });
  t.true(one < activations + 2 * weight);
  t.true(two < activations + 3 * weight);
  t.true(two > 2 * weight);
});

test.serial('observers see inputs and gradients where they pass, and change nothing', async (t) => {
  const network = new Chain(16);
  const x = noise([2, 16], 1);
  const plain = scope(() => network.forward(x).dataSync());
  const seen: string[] = [];
  const held = await settledTensors();
  await observing(
    network,
    ['first', 'unused'],
    {
      onInput: (path, input) => seen.push(`${path} in [${input.shape}]`),
      onGradient: (path, input, dy) => seen.push(`${path} back [${input.shape}] [${dy.shape}] ${dy.dtype}`),
    },
    async () => {
      scope(() => {
        const y = network.forward(x);
        t.deepEqual(y.dataSync(), plain);
        network.unused.forward(x);
        sum(y).backward();
      });
    },
  );
  t.deepEqual(seen, [
    'first in [2,16]',
    'first in [2,16]',
    'unused in [2,16]',
    'first back [2,16] [2,16] f32',
    'first back [2,16] [2,16] f32',
  ]);
  t.is(memory().tensors, held);
});
