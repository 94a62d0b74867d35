import { join } from 'node:path';
import test from 'ava';
import { type CombineOptions, loadAdapter } from 'lorikeet';
import { matmul, mul, narrow } from 'lorikeet/ops';
import { combinationOf } from '#dist/adapters/combine/options.js';
import { combineVectors } from '#dist/adapters/combine/task-vectors.js';
import { LoraLinear } from '#dist/adapters/lora-linear.js';
import { noGrad, scope } from '#dist/scope.js';
import { golden, loadTiny, relativeError } from '../helpers/adapters.js';
import { readJson } from '../helpers/folders.js';

const combined = join(golden, 'combined');

type CombinationType = NonNullable<CombineOptions['type']>;

interface Row {
  readonly adapters: readonly string[];
  readonly weights: readonly number[];
  readonly options: {
    readonly combination_type: CombinationType;
    readonly density?: number;
    readonly majority_sign_method?: 'frequency';
    readonly svd_rank?: number;
  };
  readonly values: readonly number[];
}

const { layer, ...rows } = readJson<Record<string, Row> & { layer: never }>(combined, 'grid.json');

const byType = new Map<CombinationType, Row[]>();
for (const row of Object.values<Row>(rows)) {
  const type = row.options.combination_type;
  byType.set(type, [...(byType.get(type) ?? []), row]);
}

for (const [type, cases] of byType) {
  test.serial(`${type} is PEFT's with every option: ${cases.length} combinations`, async (t) => {
    const model = await loadTiny();
    for (const name of ['second', 'third', 'other']) await loadAdapter(model, join(combined, name), { name });
    const tuned = await loadAdapter(model, join(combined, 'first'), { name: 'first' });
    for (const { adapters, weights, options, values } of cases) {
      const parts = adapters.map((adapter, i) => ({ adapter, weight: weights[i] ?? 0 }));
      await tuned.combine('new', parts, {
        type,
        ...(options.svd_rank && { rank: options.svd_rank }),
        ...(options.density && { density: options.density }),
        ...(options.majority_sign_method && { majoritySign: options.majority_sign_method }),
      });
      const module = tuned.adapters.get('new').placements.find(({ path }) => path === layer)?.module;
      if (!(module instanceof LoraLinear)) return t.fail(`no factors on ${layer}`);
      const got = await scope(() =>
        noGrad(() => narrow(mul(matmul(module.lora_B.weight, module.lora_A.weight), module.scale), 0, 0, 2)).data(),
      );
      const error = relativeError(got as Float32Array, values);
      t.true(error < 5e-6, `${error}: ${JSON.stringify({ adapters, weights, options })}`);
      tuned.remove('new');
    }
    model.dispose();
  });
}

interface Dare {
  readonly values: readonly number[][];
  readonly chances: readonly number[][];
  readonly weights: readonly number[];
  readonly runs: readonly {
    readonly type: CombinationType;
    readonly density: number;
    readonly majority: 'total' | 'frequency' | null;
    readonly result: readonly number[];
  }[];
}

test("dare is PEFT's where the same values are chosen", (t) => {
  const { values, chances, weights, runs } = readJson<Dare>(combined, 'dare.json');
  const vectors = values.map((each, i) => ({
    values: Float32Array.from(each),
    weight: weights[i] ?? 0,
    chances: Float32Array.from(chances[i] ?? []),
  }));
  for (const { type, density, majority, result } of runs) {
    const got = combineVectors(vectors, combinationOf({ type, density, ...(majority && { majoritySign: majority }) }));
    t.true(relativeError(got, result) < 1e-6, `${type} ${density} ${majority}`);
  }
  t.is(runs.length, 6);
});

test.serial('dare keeps the expected change: the mean over many seeds is the weighted sum', async (t) => {
  const model = await loadTiny();
  const tuned = await loadAdapter(model, join(combined, 'first'), { name: 'first' });
  const layerValues = async (type: CombinationType, seed: number): Promise<Float32Array> => {
    const density = type === 'dare_linear' ? { density: 0.5, seed } : {};
    await tuned.combine('new', [{ adapter: 'first', weight: 1 }], { type, ...density });
    const module = tuned.adapters.get('new').placements.find(({ path }) => path === layer)?.module as LoraLinear;
    const values = Float32Array.from((await module.lora_A.weight.data()) as Float32Array);
    tuned.remove('new');
    return values;
  };
  const kept = await layerValues('linear', 0);
  const sums = new Float64Array(kept.length);
  const kSeeds = 64;
  let zeros = 0;
  for (let seed = 0; seed < kSeeds; seed++)
    for (const [i, value] of (await layerValues('dare_linear', seed)).entries()) {
      sums[i] = (sums[i] ?? 0) + value;
      if (value === 0) zeros++;
    }
  // Each mean has the standard deviation |value| / sqrt(seeds), as a value is 0 or doubled with equal chances.
  const size = kept.reduce((total, value) => total + value ** 2, 0);
  const distance = sums.reduce((total, sum, i) => total + (sum / kSeeds - (kept[i] ?? 0)) ** 2, 0);
  t.true(Math.abs(distance / size - 1 / kSeeds) < 0.5 / kSeeds, String((distance / size) * kSeeds));
  t.true(Math.abs(zeros / (kSeeds * kept.length) - 0.5) < 0.02);
  model.dispose();
});
