import { join } from 'node:path';
import test from 'ava';
import {
  AdapterError,
  attach,
  type CombineOptions,
  ConfigError,
  combinationTypes,
  loadAdapter,
  NonFiniteError,
  type TunedModel,
} from 'lorikeet';
import { svd } from 'lorikeet/linalg';
import { tensor } from 'lorikeet/ops';
import { keepByChance, keepLargest } from '#dist/adapters/combine/task-vectors.js';
import { loadSafetensors } from '#dist/io/safetensors.js';
import { golden, loadTiny, logitsOf, relativeError, sameBits, temporaryFolder } from '../helpers/adapters.js';
import { readJson } from '../helpers/folders.js';

const combined = join(golden, 'combined');
interface Case {
  readonly adapters: readonly string[];
  readonly weights: readonly number[];
  readonly options: {
    readonly combination_type: CombineOptions['type'];
    readonly svd_rank?: number;
    readonly density?: number;
    readonly majority_sign_method?: 'frequency';
  };
}
const cases = readJson<Record<string, Case>>(combined, 'cases.json');
const ids = [5, 17, 60, 3, 88, 41, 9];

async function sources(...names: string[]): Promise<TunedModel> {
  const model = await loadTiny();
  for (const name of names) await loadAdapter(model, join(combined, name), { name });
  return loadAdapter(model, join(combined, 'first'), { name: 'again' }).then((tuned) => {
    tuned.remove('again');
    return tuned;
  });
}

function product(b: Float32Array, a: Float32Array, rank: number): Float32Array {
  const [n, k] = [b.length / rank, a.length / rank];
  const result = new Float32Array(n * k);
  for (let i = 0; i < n; i++)
    for (let j = 0; j < k; j++) {
      let total = 0;
      for (let r = 0; r < rank; r++) total += (b[i * rank + r] ?? 0) * (a[r * k + j] ?? 0);
      result[i * k + j] = total;
    }
  return result;
}

/** B A of an adapter on every layer; the scale must be 1. */
async function products(tuned: TunedModel, name: string): Promise<Map<string, Float32Array>> {
  const found = new Map<string, Float32Array>();
  for (const { path, module } of tuned.adapters.get(name).placements) {
    const parameters = [...module.namedParameters()];
    const value = (letter: string) =>
      parameters.find(([end]) => new RegExp(`lora_(embedding_)?${letter}`).test(end))?.[1] as ReturnType<typeof tensor>;
    const [a, b] = [value('A'), value('B')];
    found.set(path, product((await b.data()) as Float32Array, (await a.data()) as Float32Array, a.shape[0] ?? 1));
  }
  return found;
}

for (const [name, { adapters, weights, options }] of Object.entries(cases)) {
  test.serial(`combination is PEFT's: ${name}`, async (t) => {
    const tuned = await sources(...adapters);
    await tuned.combine(
      'new',
      adapters.map((adapter, i) => ({ adapter, weight: weights[i] ?? 0 })),
      {
        ...(options.combination_type && { type: options.combination_type }),
        ...(options.svd_rank && { rank: options.svd_rank }),
        ...(options.density && { density: options.density }),
        ...(options.majority_sign_method && { majoritySign: options.majority_sign_method }),
      },
    );
    t.deepEqual(tuned.active, ['new']);
    const got = await products(tuned, 'new');
    const expected = await loadSafetensors(join(combined, `${name}.safetensors`));
    for (const [path, value] of expected) {
      t.true(relativeError(got.get(path) ?? [], (await value.data()) as Float32Array) < 2e-6, path);
      value.dispose();
    }
    tuned.model.dispose();
  });
}

for (const [type, options] of [
  ['cat', {}],
  ['svd', { rank: 16 }],
  ['svd', { rank: 12 }],
  ['linear_exact', {}],
  ['linear_exact', { rank: 12 }],
] as const) {
  test.serial(
    `${type} ${JSON.stringify(options)} is the weighted sum of the changes, with rsLoRA parts too, and survives a file`,
    async (t) => {
      const model = await loadTiny();
      const tuned = await attach(
        model,
        { type: 'lora', rank: 4, alpha: 6, rsLora: true, init: false, targets: ['q_proj', 'down_proj'] },
        { name: 'a', seed: 1 },
      );
      await attach(
        model,
        { type: 'lora', rank: 8, alpha: 3, rsLora: true, init: false, targets: ['q_proj', 'embed_tokens'] },
        { name: 'b', seed: 2 },
      );
      tuned.activate(['a', 'b']);
      tuned.setScale('b', 2.5);
      tuned.setScale('a', -0.5);
      const expected = await logitsOf(tuned, ids);
      tuned.setScale('a', 1);
      await tuned.combine(
        'sum',
        [
          { adapter: 'a', weight: -0.5 },
          { adapter: 'b', weight: 1 },
        ],
        { type, ...options },
      );
      t.true(relativeError(await logitsOf(tuned, ids), expected) < 1e-5);
      const folder = join(temporaryFolder(), 'sum');
      await tuned.save(folder);
      const config = readJson<Record<string, unknown>>(folder, 'adapter_config.json');
      t.is(config.use_rslora, false);
      t.is(config.r, config.lora_alpha);
      const before = await logitsOf(tuned, ids);
      await loadAdapter(model, folder, { name: 'reloaded' });
      t.true(sameBits(await logitsOf(tuned, ids), before));
      model.dispose();
    },
  );
}

test.serial('dare chooses by seed alone, and density 1 drops nothing', async (t) => {
  const tuned = await sources('first', 'second');
  const parts = [
    { adapter: 'first', weight: 0.6 },
    { adapter: 'second', weight: 0.4 },
  ];
  const run = async (name: string, options: CombineOptions): Promise<Float32Array> => {
    await tuned.combine(name, parts, options);
    return logitsOf(tuned, ids);
  };
  for (const type of ['dare_linear', 'dare_ties', 'dare_linear_svd', 'dare_ties_svd'] as const) {
    const one = await run(`${type}1`, { type, density: 0.5, seed: 7 });
    t.true(sameBits(one, await run(`${type}2`, { type, density: 0.5, seed: 7 })));
    t.false(sameBits(one, await run(`${type}3`, { type, density: 0.5, seed: 8 })));
  }
  const linear = await run('linear', { type: 'linear' });
  t.true(sameBits(linear, await run('all', { type: 'dare_linear', density: 1 })));
  t.true(sameBits(linear, await run('most', { type: 'magnitude_prune', density: 1 })));
  tuned.model.dispose();
});

test('pruning keeps the stated share: the largest, or by chance with the mean kept', (t) => {
  t.deepEqual([...keepLargest(Float64Array.of(1, -3, 2, -2, 0.5), 0.6)], [0, -3, 2, -2, 0]);
  t.deepEqual([...keepLargest(Float64Array.of(2, -2, 2, 1), 0.5)], [2, -2, 0, 0]);
  t.deepEqual([...keepLargest(Float64Array.of(2, 1), 0.4)], [0, 0]);
  t.deepEqual([...keepByChance(Float64Array.of(1, 2, 3), Float64Array.of(0.1, 0.5, 0.9), 0.5)], [2, 0, 0]);
});

test.serial('what cannot be combined is an error that leaves the model as it was', async (t) => {
  const tuned = await sources('first', 'other');
  await attach(tuned.model, { type: 'lora', dora: true, targets: ['v_proj'] }, { name: 'dora', activate: false });
  const both = [
    { adapter: 'first', weight: 1 },
    { adapter: 'other', weight: 1 },
  ];
  const fails = async (
    parts: typeof both,
    options: unknown,
    instanceOf: typeof AdapterError | typeof ConfigError,
    message: RegExp,
    name = 'new',
  ) => {
    await t.throwsAsync(tuned.combine(name, parts, options as CombineOptions), { instanceOf, message });
    t.deepEqual(tuned.names, ['first', 'other', 'dora']);
    t.deepEqual(tuned.active, ['first']);
  };
  tuned.activate('first');
  await fails(both, {}, AdapterError, /there is an adapter "other" already/, 'other');
  await fails([{ adapter: 'frist', weight: 1 }], {}, AdapterError, /did you mean "first"/);
  await fails([both[0] as (typeof both)[0], both[0] as (typeof both)[0]], {}, AdapterError, /repeated/);
  await fails([], {}, AdapterError, /at least one/);
  await fails([{ adapter: 'first', weight: Number.NaN }], {}, AdapterError, /finite/);
  await fails([{ adapter: 'dora', weight: 1 }], {}, AdapterError, /more than a low-rank pair on .*DoraLinear/);
  for (const type of combinationTypes.filter((each) => !/^cat$|exact$|svd$/.test(each)))
    await fails(both, { type, ...(type === 'linear' ? {} : { density: 0.5 }) }, AdapterError, /adds factors of one rank; got ranks 4, 3/);
  await fails(both, { type: 'tie' }, ConfigError, /did you mean "ties"/);
  await fails(both, { type: 'ties_svd' }, ConfigError, /needs a density; got nothing/);
  await fails(both, { type: 'ties_svd', density: 0 }, ConfigError, /above 0/);
  await fails(both, { density: 0.5 }, ConfigError, /keeps every value/);
  await fails(both, { rank: 3 }, ConfigError, /follows from its adapters/);
  await fails(both, { type: 'svd', rank: 0 }, ConfigError, /positive integer/);
  await fails(both, { type: 'svd', majoritySign: 'total' }, ConfigError, /elects no signs/);
  tuned.model.dispose();
});

test('svd of a matrix that is not finite is a typed error', async (t) => {
  const { s } = svd(
    tensor([
      [1, Number.NaN],
      [0, 1],
    ]),
  );
  await t.throwsAsync(s.data(), { instanceOf: NonFiniteError });
});
