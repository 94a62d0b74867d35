// Every initialisation: nothing is left of one that was taken off again, or that failed.
import test from 'ava';
import { type AdapterConfig, attach, LorikeetError, type Model, type TunedModel } from 'lorikeet';
import type { AnyInit } from '#dist/inits/init.js';
import { inits } from '#dist/inits/registry.js';
import { tensor } from '#dist/ops/create.js';
import { memory, scope } from '#dist/scope.js';
import { loadTiny } from '../helpers/adapters.js';
import { settledTensors } from '../helpers/settled-bytes.js';
import { TinyNetwork } from '../helpers/tiny-network.js';

const rows = [
  [3, 17, 42, 5, 8, 80, 12, 9],
  [7, 7, 30, 61, 2, 44, 10, 11],
];
const methods: Readonly<Record<string, AnyInit>> = inits;

// One for all: what the collector takes of an earlier one would be counted.
let model: Model;
test.before(async () => {
  model = await loadTiny();
  // The first pass makes the tables of rotary angles, which stay.
  scope(() => void model.forward(rows));
});

const started = (name: string, options: object = {}, signal?: AbortSignal): Promise<TunedModel> => {
  const config = { type: 'lora', rank: 4, alpha: 8, targets: 'all-linear', init: name, ...options } as unknown as AdapterConfig;
  const data = methods[name]?.usesData ? { data: Array.from({ length: 4 }, () => rows) } : {};
  return attach(model, config, { ...data, ...(signal === undefined ? {} : { signal }) });
};

for (const [name, method] of Object.entries(methods)) {
  test.serial(`${name}: what is left once it is taken off, and after a failure, is what was there before`, async (t) => {
    const before = await settledTensors();
    (await started(name)).dispose();
    t.is(memory().tensors, before, 'taken off');
    await t.throwsAsync(started(name, { rankPattern: { down_proj: 60 } }), { code: 'config' });
    t.is(memory().tensors, before, 'a rank that one layer cannot have');
    await t.throwsAsync(started(name, { trainableTokenIndices: { nowhere: [1] } }), { code: 'config' });
    t.is(memory().tensors, before, 'refused after the starts were found');
    const controller = new AbortController();
    const cancelled = attach(model, { type: 'lora', rank: 4, alpha: 8, targets: 'all-linear', init: name } as unknown as AdapterConfig, {
      ...(method.usesData ? { data: [rows, rows] } : {}),
      signal: controller.signal,
      onProgress: ({ done }) => done > 0 && controller.abort(),
    });
    await t.throwsAsync(cancelled, { code: 'cancelled' });
    t.is(memory().tensors, before, 'cancelled between two layers');
  });

  if (method.changesBase) {
    test.serial(`${name}: no scale of 0 or below, by which the factors would be divided`, async (t) => {
      const before = await settledTensors();
      for (const alpha of [0, -8]) {
        await t.throwsAsync(started(name, { alphaPattern: { o_proj: alpha } }), {
          code: 'config',
          message: `lora: init "${name}" divides by the scale of the branch; got alpha ${alpha} on "model.layers.0.self_attn.o_proj", expected one above 0`,
        });
      }
      t.is(memory().tensors, before);
    });
  }
}

test.serial('nothing is left of a weight that is not finite', async (t) => {
  const network = new TinyNetwork();
  const [rowsOf = 0, width = 0] = network.down_proj.weight.shape;
  network.down_proj.assign(
    'weight',
    tensor(Array.from({ length: rowsOf }, (_, i) => Array.from({ length: width }, (_, j) => (i === 3 && j === 9 ? Number.NaN : i - j)))),
  );
  const before = await settledTensors();
  for (const init of ['olora', { type: 'olora', quantize: 'int8' }, 'pissa', { type: 'pissa', quantize: 'int8' }, 'loftq'] as const) {
    const config = { type: 'lora', rank: 4, alpha: 4, targets: ['q_proj', 'down_proj'], init } as AdapterConfig;
    await t.throwsAsync(attach(network, config), { instanceOf: LorikeetError, message: /"down_proj"/ });
    t.is(memory().tensors, before, JSON.stringify(init));
  }
  network.dispose();
});
