// Calibration data of a network of one's own: what is read of them, and what is refused.
import test from 'ava';
import { type AttachOptions, attach, type Tensor } from 'lorikeet';
import { Linear, Module } from 'lorikeet/nn';
import { normal } from 'lorikeet/ops';
import { memory } from '#dist/scope.js';
import { settledTensors } from '../helpers/settled-bytes.js';

class One extends Module {
  only = new Linear(10, 6, { seed: 1 });
}

const started = (network: One, data: NonNullable<AttachOptions['data']>): Promise<unknown> =>
  attach(network, { type: 'lora', rank: 2, alpha: 2, targets: ['only'], init: { type: 'corda', samples: 2 } }, { data });

for (const fails of [false, true]) {
  test.serial(`a source that is left early is closed: ${fails ? 'after a failure' : 'when enough was read'}`, async (t) => {
    const network = new One();
    const seen: string[] = [];
    function* source(): Generator<Tensor> {
      try {
        for (let batch = 0; ; batch++) {
          seen.push(`batch ${batch}`);
          yield normal([5, 10], { seed: batch });
        }
      } finally {
        seen.push('closed');
      }
    }
    const forward = (x: unknown): Tensor => {
      if (fails) throw new TypeError('no way');
      return network.only.forward(x as Tensor);
    };
    const starting = started(network, { batches: source(), forward });
    if (fails) await t.throwsAsync(starting, { instanceOf: TypeError, message: 'no way' });
    else await starting;
    t.deepEqual(seen, fails ? ['batch 0', 'closed'] : ['batch 0', 'batch 1', 'closed']);
    network.dispose();
  });
}

test.serial('a source that cannot be closed is an error, and leaves nothing behind', async (t) => {
  const network = new One();
  using batch = normal([5, 10], { seed: 1 });
  const source = {
    next: () => Promise.resolve({ done: false as const, value: batch }),
    return: () => Promise.reject(new RangeError('still open')),
    [Symbol.asyncIterator]: () => source,
  };
  const before = await settledTensors();
  await t.throwsAsync(started(network, { batches: source, forward: (x) => network.only.forward(x as Tensor) }), {
    instanceOf: RangeError,
    message: 'still open',
  });
  t.is(memory().tensors, before);
  network.dispose();
});

test.serial('refused: a forward that is asynchronous, and answers for another number of rows', async (t) => {
  const network = new One();
  const batches = [normal([5, 10], { seed: 1 })];
  await t.throwsAsync(started(network, { batches, forward: async (x) => network.only.forward(x as Tensor) }), {
    code: 'config',
    message: /^attach: "forward" of the data has to run the network before it returns; got a promise/,
  });
  await t.throwsAsync(started(network, { batches, forward: (x) => network.only.forward(x as Tensor), counts: () => [true] }), {
    code: 'config',
    message: 'corda: the data tell of 1 rows whether they count; the input of "only" has 5',
  });
  network.dispose();
});
