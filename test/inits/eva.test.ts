// EVA against PEFT, the promises of its ranks and scales, and what it refuses.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import {
  type AdapterConfig,
  type AttachOptions,
  attach,
  loadAdapter,
  loadModel,
  type Model,
  scope,
  setThreads,
  type Tensor,
  type TunedModel,
  threads,
} from 'lorikeet';
import { loadSafetensors } from 'lorikeet/io';
import { svd } from 'lorikeet/linalg';
import { Dropout, Linear, Module } from 'lorikeet/nn';
import { add, concat, matmul, mean, mul, narrow, normal, relu, sub, tensor, transpose } from 'lorikeet/ops';
import { inputGroups } from '#dist/inits/input-groups.js';
import { PrincipalComponents } from '#dist/inits/principal-components.js';
import { allotRanks, mostComponents } from '#dist/inits/rank-allotment.js';
import { golden, loadTiny, logitsOf, relativeError, sameBits, temporaryFolder } from '../helpers/adapters.js';
import { apart, unorthogonal, withSpectrum } from '../helpers/matrices.js';
import { numbers } from '../helpers/numbers.js';
import { perturb } from '../helpers/perturb.js';

interface Case {
  readonly options: {
    readonly r: number;
    readonly lora_alpha: number;
    readonly target_modules: string[];
    readonly rank_pattern?: Record<string, number>;
  };
  readonly eva: Record<string, unknown>;
  readonly rankPattern: Record<string, number>;
  readonly alphaPattern: Record<string, number>;
  readonly targets: string[];
}

interface Cases {
  readonly batches: { readonly ids: number[][]; readonly targets: number[][] }[];
}

const names = {
  rho: 'rho',
  tau: 'tau',
  whiten: 'whiten',
  use_label_mask: 'useLabelMask',
  adjust_scaling_factors: 'adjustScalingFactors',
} as const;
const cases = JSON.parse(readFileSync(join(golden, 'eva', 'cases.json'), 'utf8')) as Cases & Record<string, Case>;
const rows = Array.from({ length: 3 }, (_, b) =>
  Array.from({ length: 4 }, (_, r) => Array.from({ length: 12 }, (_, i) => (7 * i + 31 * r + 13 * b + i * i * r) % 97)),
);

const started = (model: Model, options: object, rest: AttachOptions = {}): Promise<TunedModel> =>
  attach(model, { type: 'lora', rank: 4, alpha: 8, targets: 'all-linear', init: 'eva', ...options } as AdapterConfig, {
    data: rows,
    ...rest,
  });

const parametersOf = (tuned: TunedModel): Map<string, Tensor> => new Map(tuned.namedParameters());
const configOf = (folder: string): Record<string, unknown> => JSON.parse(readFileSync(join(folder, 'adapter_config.json'), 'utf8'));

for (const name of Object.keys(cases).filter((key) => !['base', 'batches'].includes(key))) {
  test.serial(`ranks, alphas and A of PEFT: ${name}`, async (t) => {
    const { options, eva, rankPattern, alphaPattern, targets } = cases[name] as Case;
    const expected = await loadSafetensors(join(golden, 'eva', 'factors.safetensors'));
    const model = await loadTiny();
    const init = {
      type: 'eva',
      ...Object.fromEntries(Object.entries(eva).map(([key, value]) => [names[key as keyof typeof names], value])),
    };
    const { r: rank, lora_alpha: alpha, target_modules, rank_pattern = {} } = options;
    const tuned = await started(model, { rank, alpha, targets: target_modules, rankPattern: rank_pattern, init }, { data: cases.batches });
    const folder = join(temporaryFolder(), 'adapter');
    await tuned.save(folder);
    const written = configOf(folder);
    t.deepEqual(written.rank_pattern, rankPattern);
    const alphas = written.alpha_pattern as Record<string, number>;
    t.deepEqual(Object.keys(alphas).sort(), Object.keys(alphaPattern).sort());
    for (const [path, value] of Object.entries(alphaPattern)) t.true(Math.abs((alphas[path] ?? 0) - value) < 1e-12);
    t.is(written.init_lora_weights, 'eva');
    t.deepEqual(written.eva_config, {
      rho: 2,
      tau: 0.99,
      use_label_mask: true,
      label_mask_value: -100,
      whiten: false,
      adjust_scaling_factors: true,
      ...eva,
    });
    const found = parametersOf(tuned);
    t.deepEqual(
      [...found.keys()]
        .filter((key) => key.endsWith('A.weight'))
        .map((key) => key.replace('.lora_A.weight', ''))
        .sort(),
      targets,
    );
    for (const path of targets) {
      const a = expected.get(`${name}/${path}`)!;
      const scale = Math.max(...(await numbers(a)).map(Math.abs));
      const difference = await scope(() => apart(found.get(`${path}.lora_A.weight`)!, a));
      t.true(difference < 1e-4 * scale, `${path}: ${difference / scale}`);
      t.true((await numbers(found.get(`${path}.lora_B.weight`)!)).every((value) => value === 0));
    }
    model.dispose();
  });
}

test.serial('the rows of A are orthonormal; whitened, those of every layer of a group alike', async (t) => {
  const model = await loadTiny();
  const plain = await started(model, { init: { type: 'eva', rho: 1 } });
  for (const [name, value] of plain.namedParameters())
    if (name.endsWith('A.weight')) t.true((await scope(() => unorthogonal(transpose(value)))) < 1e-5, name);
  const rowsOf = async (tuned: TunedModel, path: string): Promise<number[]> =>
    numbers(parametersOf(tuned).get(`model.layers.1.${path}.lora_A.weight`)!);
  const bare = await rowsOf(plain, 'self_attn.q_proj');
  plain.dispose();
  const whitened = await started(model, { init: { type: 'eva', rho: 1, whiten: true } });
  const [q, k, v] = [
    await rowsOf(whitened, 'self_attn.q_proj'),
    await rowsOf(whitened, 'self_attn.k_proj'),
    await rowsOf(whitened, 'self_attn.v_proj'),
  ];
  t.deepEqual(k, q);
  t.deepEqual(v, q);
  const norm = (values: readonly number[], row: number): number => Math.hypot(...values.slice(row * 32, row * 32 + 32));
  t.true(norm(q, 0) < 1 && norm(q, 3) > norm(q, 0), 'smaller variance, larger row');
  t.true(q.every((value, i) => Math.abs(value / norm(q, i >> 5) - (bare[i] ?? 0)) < 1e-5));
  whitened.dispose();
  const scaled = await started(model, { init: { type: 'eva', rho: 1, scaleBySingularValues: true } });
  const s = await rowsOf(scaled, 'self_attn.q_proj');
  t.true(Math.abs(norm(s, 0) - 1) < 1e-5);
  for (const row of [1, 2, 3])
    t.true(Math.abs(norm(s, row) * norm(q, row) ** 2 - norm(q, 0) ** 2) < 1e-5, 'share S_j / S_0, where whitened norms are S^-1/2');
  model.dispose();
});

test.serial('one batch: components, singular values and shares of the exact decomposition', async (t) => {
  await scope(async () => {
    const x = add(withSpectrum(60, 20, [8, 6, 4, 3, 2, 1.5, 1, 0.5]), 0.3);
    const centred = sub(x, mean(x, 0, { keepDim: true }));
    const exact = svd(centred);
    const found = new PrincipalComponents('layer', 5, 0.99);
    await found.update(x);
    t.true((await apart(found.singularValues, narrow(exact.s, 0, 0, 5))) < 1e-4 * 8);
    const cosines = await numbers(matmul(found.components, transpose(narrow(exact.vt, 0, 0, 5))));
    for (let j = 0; j < 5; j++) t.true(Math.abs(cosines[6 * j] ?? 0) > 0.999);
    const total = (await numbers(exact.s)).reduce((sum, s) => sum + s * s, 0);
    const shares = (await numbers(exact.s)).map((s) => (s * s) / total);
    for (const [j, ratio] of found.ratios.entries()) t.true(Math.abs(ratio - (shares[j] ?? 0)) < 1e-4);
    t.true(found.ratios.reduce((sum, ratio) => sum + ratio, 0) <= 1);
    t.false(found.isSettled(1), 'one batch is compared with nothing');
    await found.update(x);
    t.true(found.isSettled(5));
    found.dispose();
  });
});

test('ranks: the largest shares first, equal ones to the layer that comes first; halves of the most are rounded to even', (t) => {
  const layers = [
    { path: 'q', ratios: [0.5, 0.2, 0.1] },
    { path: 'k', ratios: [0.5, 0.2, 0.1] },
    { path: 'o', ratios: [0.3, 0.04, 0.03] },
    { path: 'flat', ratios: [0.01, 0.01, 0.01] },
  ];
  t.deepEqual(
    [...allotRanks(layers, 6)],
    [
      ['q', 3],
      ['k', 2],
      ['o', 1],
      ['flat', 0],
    ],
  );
  for (let budget = 1; budget <= 12; budget++) {
    const ranks = allotRanks(layers, budget);
    t.is(
      [...ranks.values()].reduce((a, b) => a + b),
      budget,
    );
    t.true((ranks.get('q') ?? 0) >= (ranks.get('k') ?? 0));
    t.true([...ranks.values()].every((rank) => rank <= 3));
  }
  t.deepEqual([mostComponents(3, 1.5), mostComponents(5, 1.5), mostComponents(8, 2), mostComponents(3, 1.1)], [4, 8, 16, 3]);
});

test.serial('the budget is spent, scales are as configured, and the order of rows does not matter', async (t) => {
  const model = await loadTiny();
  const configs: Record<string, unknown>[] = [];
  for (const data of [rows, rows.map((batch) => [...batch].reverse())]) {
    for (const rsLora of [false, true]) {
      const tuned = await started(model, { rsLora, rankPattern: { down_proj: 6 }, alphaPattern: { o_proj: 3 } }, { data });
      const folder = join(temporaryFolder(), 'adapter');
      await tuned.save(folder);
      configs.push(configOf(folder));
      const alphas = configOf(folder).alpha_pattern as Record<string, number>;
      let budget = 0;
      for (const [name, { shape }] of tuned.namedParameters()) {
        if (!name.endsWith('A.weight')) continue;
        const path = name.replace('.lora_A.weight', '');
        const [rank = 0] = shape;
        budget += rank;
        t.true(rank <= (path.endsWith('down_proj') ? 12 : 8));
        const root = (r: number): number => (rsLora ? Math.sqrt(r) : r);
        const configured = (path.endsWith('o_proj') ? 3 : 8) / root(path.endsWith('down_proj') ? 6 : 4);
        t.true(Math.abs((alphas[path] ?? 8) / root(rank) - configured) < 1e-12, path);
      }
      t.is(budget, 2 * (6 * 4 + 6));
      tuned.dispose();
    }
  }
  t.deepEqual(configs[2]?.rank_pattern, configs[0]?.rank_pattern);
  const kept = await started(model, { init: { type: 'eva', rho: 1 } });
  t.true([...kept.namedParameters()].every(([name, { shape }]) => shape[name.endsWith('A.weight') ? 0 : 1] === 4));
  model.dispose();
});

test.serial('layers with one input are one group', async (t) => {
  const model = await loadTiny();
  const paths = ['q_proj', 'k_proj', 'v_proj', 'o_proj'].map((name) => `model.layers.1.self_attn.${name}`);
  const mlp = ['gate_proj', 'up_proj', 'down_proj'].map((name) => `model.layers.1.mlp.${name}`);
  const groups = await inputGroups(
    model.network,
    [...paths, ...mlp, 'lm_head'],
    () => void scope(() => model.forward(rows[0] as number[][])),
  );
  t.deepEqual([...groups.values()], [paths[0], paths[0], paths[0], paths[3], mlp[0], mlp[0], mlp[2], 'lm_head']);
  t.false(
    paths.some((path) => model.module(path).constructor.name === 'AdaptedLayer'),
    'nothing is left on the model',
  );
  model.dispose();
});

class Pair extends Module {
  first = new Linear(10, 12, { seed: 1 });
  second = new Linear(12, 6, { seed: 2 });

  forward(x: Tensor): Tensor {
    return this.second.forward(relu(this.first.forward(x)));
  }
}

interface Runs {
  readonly batches: Iterable<Tensor>;
  forward(x: Tensor): unknown;
  counts?(x: Tensor, learnt: boolean): boolean[];
}

const onPair = async (network: Pair, runs: Runs, options: object = {}): Promise<Map<string, Tensor>> => {
  const config = { type: 'lora', rank: 3, alpha: 3, targets: ['first', 'second'], init: { type: 'eva', ...options } };
  const set = await attach(network, config as AdapterConfig, { data: runs as AttachOptions['data'] & object });
  const values = new Map(set.namedParameters());
  return values;
};

test.serial('rows that do not count change nothing', async (t) => {
  const x = [normal([20, 10], { seed: 3 }), normal([20, 10], { seed: 4 })];
  const other = x.map((batch, i) => scope(() => concat([narrow(batch, 0, 0, 12), normal([8, 10], { seed: 9 + i, std: 50 })])));
  const found: number[][] = [];
  for (const batches of [x, other]) {
    const network = new Pair();
    const asked: boolean[] = [];
    const counts = (_: Tensor, learnt: boolean): boolean[] => {
      asked.push(learnt);
      return Array.from({ length: 20 }, (_, row) => row < 12);
    };
    const values = await onPair(network, { batches, forward: (batch) => network.forward(batch), counts }, { useLabelMask: false });
    t.true(asked.every((learnt) => !learnt));
    found.push((await Promise.all([...values.values()].map(numbers))).flat());
    network.dispose();
  }
  t.deepEqual(found[1], found[0]);
});

test.serial('the network computes as in inference, whatever its mode', async (t) => {
  class Dropping extends Pair {
    drop = new Dropout(0.5);
    override forward(x: Tensor): Tensor {
      return super.forward(this.drop.forward(x));
    }
  }
  const found: number[][] = [];
  for (const training of [false, true]) {
    const network = new Dropping().train(training);
    const values = await onPair(network, { batches: [normal([20, 10], { seed: 3 })], forward: (x) => network.forward(x) });
    found.push((await Promise.all([...values.values()].map(numbers))).flat());
    t.is(network.drop.training, training);
    network.dispose();
  }
  t.deepEqual(found[1], found[0]);
});

test.serial('by nothing is divided where a layer gets no rank; a layer that the data do not reach is named', async (t) => {
  class Beside extends Pair {
    flat = new Linear(10, 4, { seed: 4 });
    unused = new Linear(10, 4, { seed: 5 });
    override forward(x: Tensor): Tensor {
      this.flat.forward(mul(x, 0));
      return super.forward(x);
    }
  }
  const network = new Beside();
  const data = { batches: [normal([20, 10], { seed: 3 })], forward: (x: unknown) => network.forward(x as Tensor) };
  const on = (...targets: string[]) =>
    attach(network, { type: 'lora', rank: 1, alpha: 1, targets, init: { type: 'eva', scaleBySingularValues: true } }, { data });
  const set = await on('first', 'flat');
  t.deepEqual(
    [...set.namedParameters()].map(([name, { shape }]) => [name, shape[0]]),
    [
      ['first.lora_A.weight', 2],
      ['first.lora_B.weight', 12],
    ],
  );
  set.dispose();
  await t.throwsAsync(on('first', 'unused'), {
    code: 'config',
    message: 'eva: no batch of the data reaches "unused"; expected targets that the network runs',
  });
  network.dispose();
});

test.serial('a layer that runs twice in a pass takes both inputs in', async (t) => {
  class Twice extends Module {
    only = new Linear(10, 10, { seed: 1 });
  }
  const network = new Twice();
  const x = [normal([20, 10], { seed: 3 }), normal([20, 10], { seed: 4 })];
  const runs = { batches: [x], forward: (pair: Tensor[]) => pair.map((each) => network.only.forward(each)) };
  const config = { type: 'lora', rank: 3, alpha: 3, targets: ['only'], init: { type: 'eva', rho: 1, maxBatches: 1 } } as AdapterConfig;
  const warned = new Promise<string>((resolve) => process.once('warning', ({ message }) => resolve(message)));
  const set = await attach(network, config, { data: runs as unknown as NonNullable<AttachOptions['data']> });
  t.regex(await warned, /after 1 batches \(maxBatches\) the components of 1 of 1 inputs are not settled, the first that of "only"/);
  const pca = new PrincipalComponents('only', 3, 0.99);
  for (const each of x) await pca.update(each);
  t.is(await scope(() => apart(new Map(set.namedParameters()).get('only.lora_A.weight')!, pca.components)), 0);
  pca.dispose();
  network.dispose();
});

test.serial('a layer without rank gets no adapter, and the folder of the rest loads', async (t) => {
  const model = await loadTiny();
  const tuned = await started(model, { rank: 1, alpha: 2, init: { type: 'eva', rho: 12 } });
  const count = tuned.parameters().length / 2;
  t.true(count < 14, `${count} of 14 layers`);
  perturb(tuned);
  const expected = await logitsOf(tuned, [3, 17, 42, 5]);
  const folder = join(temporaryFolder(), 'adapter');
  await tuned.save(folder);
  tuned.dispose();
  const loaded = await loadAdapter(model, folder);
  t.is(loaded.parameters().length / 2, count);
  t.true(sameBits(await logitsOf(loaded, [3, 17, 42, 5]), expected));
  const again = join(temporaryFolder(), 'again');
  await loaded.save(again);
  t.deepEqual(configOf(again), configOf(folder));
  model.dispose();
});

test.serial('beside DoRA, on the head, and with embeddings, which start as plain LoRA', async (t) => {
  const model = await loadTiny('models/llama-sharded');
  const base = await logitsOf(model, [3, 17, 42, 5]);
  const warned = new Promise<string>((resolve) => process.once('warning', ({ message }) => resolve(message)));
  const dora = await started(model, { dora: true, targets: ['q_proj', 'lm_head', 'embed_tokens'] });
  t.is(
    await warned,
    'lora: init "eva" starts linear layers, other targets start as in plain LoRA; got 1 of these, the first "model.embed_tokens"',
  );
  const values = parametersOf(dora);
  t.true(values.has('lm_head.lora_magnitude_vector'));
  t.true((await scope(() => unorthogonal(transpose(values.get('lm_head.lora_A.weight')!)))) < 1e-5);
  t.is(values.get('model.embed_tokens.lora_embedding_A')?.shape[0], 4);
  const now = await logitsOf(dora, [3, 17, 42, 5]);
  t.true(base.every((value, i) => Math.abs(value - (now[i] ?? 0)) < 1e-4));
  model.dispose();
});

test.serial('a quantised base stays as it is, and the number of threads does not matter', async (t) => {
  const values: Float32Array[][] = [];
  const before = threads();
  for (const count of [1, 2]) {
    setThreads(count);
    const model = await loadModel(join(golden, 'models/llama-gqa-tied'), { dtype: 'nf4' });
    const base = await logitsOf(model, [3, 17, 42, 5]);
    const tuned = await started(model, {});
    t.true(relativeError(await logitsOf(tuned, [3, 17, 42, 5]), base) < 1e-5);
    values.push(await Promise.all([...tuned.namedParameters()].map(async ([, value]) => (await value.data()) as Float32Array)));
    model.dispose();
  }
  setThreads(before);
  t.true(values[0]?.every((value, i) => sameBits(value, values[1]?.[i] as Float32Array)));
});

test.serial('what it refuses', async (t) => {
  const model = await loadTiny();
  const refused = (options: object, message: RegExp, rest: AttachOptions = {}, code = 'config') =>
    t.throwsAsync(started(model, options, rest), { code, message });
  const eva = (options: object) => ({ init: { type: 'eva', ...options } });
  await refused(eva({ rho: 0.5 }), /eva: rho must be a number from 1 on; got 0.5/);
  await refused(eva({ tau: 1.5 }), /eva: tau must be a number from 0 to 1; got 1.5/);
  await refused(eva({ whiten: 'yes' }), /eva: whiten must be true or false; got "yes"/);
  await refused(eva({ maxBatches: 0 }), /eva: maxBatches must be/);
  await refused(eva({ roh: 2 }), /init "eva" has no option "roh"; did you mean "rho"/);
  await refused(
    { rank: 20 },
    /eva: rank 20 times rho 2 asks for 40 components of the input of "model.layers.0.self_attn.q_proj", which has 32/,
  );
  await refused(
    {},
    /no batch has the 8 rows that the components of "model.layers.0.self_attn.q_proj" take \(rank times rho\); got at most 6/,
    {
      data: [[[3, 5, 7, 9, 11, 2]], [[3, 5]]],
    },
  );
  await refused({}, /the data hold no batch/, { data: [] }, 'invalid-argument');
  await t.throwsAsync(attach(model, { type: 'lora', init: 'eva' }), { code: 'config', message: /init "eva" looks at data/ });
  await refused({ rankPattern: { q_porj: 2 } }, /rankPattern key "q_porj" decides for no adapted layer; did you mean "q_proj"/);
  await refused({}, /eva: cancelled/, { signal: AbortSignal.abort() }, 'cancelled');
  t.is(model.network.trainableParameters().length, 0);
  model.dispose();
});

test.serial('values that are not finite name the layer, and the network stays as it was', async (t) => {
  const network = new Pair();
  const broken = tensor(
    Array.from({ length: 20 }, (_, i) => Array.from({ length: 10 }, (_, j) => (i + j === 9 ? Number.NaN : Math.sin(i * j)))),
  );
  await t.throwsAsync(onPair(network, { batches: [broken], forward: (x) => network.forward(x) }), {
    code: 'non-finite',
    message: /eva: "first"/,
  });
  t.true(network.first instanceof Linear);
  const x = mul(normal([20, 10], { seed: 3 }), 1);
  await t.throwsAsync(onPair(network, { batches: [x], forward: (each) => network.forward(each), counts: () => [true] }), {
    code: 'config',
    message: /the data tell of 1 rows whether they count; the input of "first" has 20/,
  });
  const flat = tensor(Array.from({ length: 20 }, () => Array.from({ length: 10 }, (_, j) => j)));
  for (const options of [{ whiten: true }, { scaleBySingularValues: true }]) {
    await t.throwsAsync(onPair(network, { batches: [flat], forward: (each) => network.forward(each) }, options), {
      code: 'non-finite',
      message: /A would be divided by the singular value of component 0 of the input of "first"; got 0/,
    });
  }
  network.dispose();
});
