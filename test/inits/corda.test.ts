// CorDA against PEFT, the identities of its decomposition, its files, and what it refuses.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { type AdapterConfig, type AttachOptions, attach, loadModel, type Model, scope, type Tensor, type TunedModel } from 'lorikeet';
import { loadSafetensors, saveSafetensors } from 'lorikeet/io';
import { solve, svd } from 'lorikeet/linalg';
import { Dropout, Linear, Module } from 'lorikeet/nn';
import { add, concat, matmul, mul, narrow, normal, relu, sqrt, square, sub, sum, tensor, transpose, unsqueeze } from 'lorikeet/ops';
import { CovarianceSum } from '#dist/inits/covariance.js';
import { damped } from '#dist/inits/damping.js';
import type { PackedWeight } from '#dist/ops/linalg.js';
import { golden, loadTiny, sameBits, temporaryFolder } from '../helpers/adapters.js';
import { apart, largest } from '../helpers/matrices.js';
import { numbers } from '../helpers/numbers.js';

interface Case {
  readonly options: {
    readonly r: number;
    readonly lora_alpha: number;
    readonly target_modules: string[];
    readonly rank_pattern?: Record<string, number>;
    readonly use_rslora?: boolean;
  };
  readonly method: 'ipm' | 'kpm';
}

const cases = JSON.parse(readFileSync(join(golden, 'corda', 'cases.json'), 'utf8')) as { readonly samples: number[][] } & Record<
  string,
  Case
>;
const samples = cases.samples;
const alone = samples.map((ids) => [ids]);

const started = (model: Model, init: object, options: object = {}, rest: AttachOptions = { data: alone }): Promise<TunedModel> =>
  attach(
    model,
    { type: 'lora', rank: 4, alpha: 8, targets: 'all-linear', init: { type: 'corda', ...init }, ...options } as AdapterConfig,
    rest,
  );

const norm = (x: Tensor): Promise<number> => scope(() => sqrt(sum(square(x)))).item();
const weightOf = (model: Model, path: string): Tensor => {
  const module = model.module(path) as unknown as { weight?: PackedWeight; base?: { weight: PackedWeight } };
  return (module.weight ?? (module.base as { weight: PackedWeight }).weight).unpack();
};

for (const name of ['ipm', 'kpm', 'kpm-rslora']) {
  test.serial(`A, B and the weights that are left of PEFT: ${name}`, async (t) => {
    await scope(async () => {
      const { options, method } = cases[name] as Case;
      const expected = await loadSafetensors(join(golden, 'corda', 'factors.safetensors'));
      const model = await loadTiny();
      const { r: rank, lora_alpha: alpha, target_modules: targets, rank_pattern: rankPattern = {}, use_rslora: rsLora = false } = options;
      const tuned = await started(model, { method, precision: 'f32' }, { rank, alpha, targets, rankPattern, rsLora });
      const found = new Map(tuned.namedParameters());
      const keys = [...expected.keys()].filter((key) => key.startsWith(`${name}/`) && key.endsWith('lora_A'));
      t.is(found.size, 2 * keys.length);
      for (const key of keys) {
        const path = key.slice(name.length + 1, -'.lora_A'.length);
        const [a, b] = ['A', 'B'].map((side) => found.get(`${path}.lora_${side}.weight`) as Tensor) as [Tensor, Tensor];
        const [wantedA, wantedB] = ['A', 'B'].map((side) => expected.get(`${name}/${path}.lora_${side}`) as Tensor) as [Tensor, Tensor];
        // Of a component only the product of its two vectors has a sign.
        for (let j = 0; j < (a.shape[0] ?? 0); j++) {
          const product = (left: Tensor, right: Tensor): Tensor => matmul(narrow(left, 1, j, 1), narrow(right, 0, j, 1));
          const wanted = product(wantedB, wantedA);
          t.true((await norm(sub(product(b, a), wanted))) < 1e-4 * (await norm(wanted)), `${path}, component ${j}`);
          for (const [one, other, dim] of [
            [a, wantedA, 0],
            [b, wantedB, 1],
          ] as const) {
            const length = await norm(narrow(other, dim, j, 1));
            t.true(Math.abs((await norm(narrow(one, dim, j, 1))) - length) < 1e-4 * length, `${path}, balance of component ${j}`);
          }
        }
        const left = expected.get(`${name}/${path}.base_layer`);
        if (left !== undefined) t.true((await apart(weightOf(model, path), left)) < 1e-5 * (await largest(left)), path);
      }
      model.dispose();
    });
  });
}

test.serial('covariances of PEFT, one sample at a time and in padded batches, and in parts', async (t) => {
  await scope(async () => {
    const expected = await loadSafetensors(join(golden, 'corda', 'factors.safetensors'));
    const found: Map<string, Tensor>[] = [];
    const batches = [alone, [samples.slice(0, 3), samples.slice(3)]];
    for (const data of batches) {
      const model = await loadTiny();
      const covarianceFile = join(temporaryFolder(), 'made', 'covariances.safetensors');
      await started(model, { covarianceFile }, {}, { data });
      found.push(await loadSafetensors(covarianceFile));
      model.dispose();
    }
    const [one, padded] = found as [Map<string, Tensor>, Map<string, Tensor>];
    t.is(one.size, 14);
    for (const [key, value] of expected) {
      if (!key.startsWith('covariance/')) continue;
      const path = key.slice('covariance/'.length);
      const scale = await largest(value);
      t.true((await apart(one.get(path)!, value)) < 1e-5 * scale, path);
      t.true((await apart(padded.get(path)!, value)) < 1e-5 * scale, path);
      t.is(await apart(one.get(path)!, transpose(one.get(path)!)), 0);
      if (path.endsWith('q_proj')) t.is(await apart(one.get(path.replace('q_', 'v_'))!, one.get(path)!), 0);
    }
    const bits: Float32Array[][] = [];
    for (const inputsAtOnce of [null, 3]) {
      const model = await loadTiny();
      const tuned = await started(model, { inputsAtOnce });
      const values = new Map(tuned.namedParameters());
      bits.push(await Promise.all([...values.keys()].sort().map(async (key) => (await values.get(key)!.data()) as Float32Array)));
      model.dispose();
    }
    t.true(bits[0]?.every((value, i) => sameBits(value, bits[1]?.[i] as Float32Array)));
  });
});

/** A weight and a covariance of few directions, in f64. */
function problem(): { weight: Tensor; covariance: Tensor } {
  const x = matmul(normal([80, 12], { seed: 3, dtype: 'f64' }), normal([12, 20], { seed: 4, dtype: 'f64' }));
  return { weight: normal([30, 20], { seed: 5, dtype: 'f64' }), covariance: matmul(transpose(x), x) };
}

test.serial('the truncation is the best in the norm of the context, and the whole is the weight', async (t) => {
  await scope(async () => {
    const { weight, covariance } = problem();
    const { matrix } = await damped(covariance, 'layer');
    const { u, s, vt } = svd(matmul(weight, matrix));
    const v = solve(matrix, transpose(vt));
    const truncated = (k: number): Tensor => matmul(mul(narrow(u, 1, 0, k), narrow(s, 0, 0, k)), transpose(narrow(v, 1, 0, k)));
    t.true((await norm(sub(truncated(20), weight))) < 1e-9 * (await norm(weight)));
    const plain = svd(weight);
    const values = await numbers(s);
    for (let k = 1; k < 20; k++) {
      const rest = Math.sqrt(values.slice(k).reduce((total, value) => total + value * value, 0));
      const got = await norm(matmul(sub(weight, truncated(k)), matrix));
      t.true(Math.abs(got - rest) < 1e-6 * (values[0] ?? 1));
      const other = matmul(mul(narrow(plain.u, 1, 0, k), narrow(plain.s, 0, 0, k)), narrow(plain.vt, 0, 0, k));
      t.true(got <= (await norm(matmul(sub(weight, other), matrix))));
    }
  });
});

test.serial('damping: proportional to the covariance, doubled until the inverse is one, and bounded', async (t) => {
  await scope(async () => {
    const { covariance } = problem();
    const { matrix, damp, residual } = await damped(covariance, 'layer');
    t.is(damp, 0.01);
    t.true(residual < 0.05);
    const times4 = await damped(mul(covariance, 4), 'layer');
    t.true((await apart(times4.matrix, mul(matrix, 4))) < 1e-9 * (await largest(matrix)));
    const wide = 600;
    const direction = normal([wide, 1], { seed: 1 });
    const single = await damped(matmul(direction, transpose(direction)), 'layer');
    t.true(single.residual < 0.05);
    t.true(Number.isInteger(Math.log2(single.damp / 0.01)));
    await t.throwsAsync(
      damped(
        tensor([
          [0, 0],
          [0, 0],
        ]),
        'blocks.3',
      ),
      { code: 'config', message: /input of "blocks.3" cannot be inverted/ },
    );
  });
});

test.serial('the scale of the covariance moves the balance of A and B, and not their product', async (t) => {
  await scope(async () => {
    const model = await loadTiny();
    const folder = temporaryFolder();
    const covarianceFile = join(folder, 'once.safetensors');
    await started(model, { covarianceFile }).then((tuned) => tuned.dispose());
    const fourfold = join(folder, 'fourfold.safetensors');
    await saveSafetensors(fourfold, new Map([...(await loadSafetensors(covarianceFile))].map(([name, value]) => [name, mul(value, 4)])));
    const factorsOf = async (file: string): Promise<[Tensor, Tensor]> => {
      const tuned = await started(model, { covarianceFile: file }, {}, {});
      const found = new Map(tuned.namedParameters());
      const pair = ['A', 'B'].map((side) => mul(found.get(`model.layers.0.mlp.up_proj.lora_${side}.weight`) as Tensor, 1).detach());
      tuned.dispose();
      return pair as [Tensor, Tensor];
    };
    const [a, b] = await factorsOf(covarianceFile);
    const [a4, b4] = await factorsOf(fourfold);
    t.true((await apart(matmul(b4, a4), matmul(b, a))) < 1e-5 * (await largest(matmul(b, a))));
    t.true(Math.abs((await norm(b4)) / (await norm(b)) - 2) < 1e-4);
    t.true(Math.abs((await norm(a4)) / (await norm(a)) - 0.5) < 1e-4);
    model.dispose();
  });
});

for (const method of ['ipm', 'kpm'] as const) {
  test.serial(
    `${method}: rest and part are the weight, columns of B are orthogonal with norms S / s, and sigmaFuse puts them elsewhere`,
    async (t) => {
      await scope(async () => {
        const model = await loadTiny();
        const path = 'model.layers.1.self_attn.o_proj';
        const before = weightOf(model, path);
        const pair = async (init: object): Promise<{ a: Tensor; b: Tensor; rest: Tensor }> => {
          const tuned = await started(model, { method, ...init });
          const found = new Map(tuned.namedParameters());
          const [a, b] = ['A', 'B'].map((side) => mul(found.get(`${path}.lora_${side}.weight`) as Tensor, 1).detach()) as [Tensor, Tensor];
          const rest = weightOf(model, path);
          tuned.dispose();
          return { a, b, rest };
        };
        const { a, b, rest } = await pair({});
        const product = mul(matmul(b, a), 2);
        t.true((await apart(add(rest, product), before)) < 1e-6 * (await largest(before)));
        const gram = (x: Tensor): Tensor => matmul(transpose(x), x);
        const squares = await numbers(sum(square(b), 0));
        const diagonal = tensor(squares.map((value, i) => squares.map((_, j) => (i === j ? value : 0))));
        t.true((await apart(gram(b), diagonal)) < 1e-5 * (squares[0] ?? 1));
        t.true(squares.every((value, i) => i === 0 || value <= (squares[i - 1] ?? 0)));
        const inB = await pair({ sigmaFuse: 'u' });
        const inA = await pair({ sigmaFuse: 'v' });
        t.true((await apart(gram(inA.b), gram(mul(b, tensor(squares.map((value) => 1 / Math.sqrt(value))))))) < 1e-5);
        t.true((await apart(inB.b, mul(b, tensor(squares.map(Math.sqrt))))) < 1e-5 * (squares[0] ?? 1));
        for (const other of [inA, inB]) t.true((await apart(mul(matmul(other.b, other.a), 2), product)) < 1e-5 * (await largest(product)));
        model.dispose();
      });
    },
  );
}

test.serial('ipm and kpm train opposite ends, and the randomised decomposition finds the upper one', async (t) => {
  await scope(async () => {
    const partOf = async (init: object): Promise<Tensor> => {
      const model = await loadTiny();
      const tuned = await started(model, init);
      const found = new Map(tuned.namedParameters());
      const [a, b] = ['A', 'B'].map((side) => found.get(`model.layers.1.mlp.down_proj.lora_${side}.weight`) as Tensor) as [Tensor, Tensor];
      const part = mul(matmul(b, a), 2).detach();
      model.dispose();
      return part;
    };
    const [ipm, fast, kpm] = [await partOf({}), await partOf({ niter: 16 }), await partOf({ method: 'kpm' })];
    t.true((await apart(fast, ipm)) < 0.02 * (await largest(ipm)));
    t.true((await norm(kpm)) < (await norm(ipm)));
  });
});

test.serial('the cache gives the same bits without data; another method, rank or shape is refused', async (t) => {
  const model = await loadTiny();
  const folder = temporaryFolder();
  const cacheFile = join(folder, 'cache.safetensors');
  const bitsOf = async (rest: AttachOptions): Promise<Float32Array[]> => {
    const tuned = await started(model, { cacheFile, method: 'kpm' }, {}, rest);
    const bits = await Promise.all([...tuned.namedParameters()].map(async ([, value]) => ((await value.data()) as Float32Array).slice()));
    tuned.dispose();
    return bits;
  };
  const made = await bitsOf({ data: alone });
  const read = await bitsOf({});
  t.true(made.every((value, i) => sameBits(value, read[i] as Float32Array)));
  const refused = (init: object, options: object, message: RegExp, code = 'config') =>
    t.throwsAsync(started(model, init, options, {}), { code, message });
  await refused({ cacheFile }, {}, /was made with method "kpm"; got "ipm"/);
  await refused(
    { cacheFile, method: 'kpm' },
    { rank: 5 },
    /S of cacheFile ".*" is of another shape; got \[4\] for "model.layers.0.self_attn.q_proj.eigens.S_WC", expected \[5\]/,
  );
  await refused(
    { cacheFile: join(folder, 'none.safetensors') },
    {},
    /there is no file ".*none.safetensors" yet, and nothing to make it from/,
  );
  const covarianceFile = join(folder, 'covariances.safetensors');
  await started(model, { covarianceFile }, { targets: ['q_proj'] }).then((tuned) => tuned.dispose());
  await refused(
    { covarianceFile },
    { targets: ['q_proj', 'o_proj'] },
    /covarianceFile ".*" has no "model.layers.0.self_attn.o_proj"; it was made for other targets/,
  );
  const odd = join(folder, 'odd.safetensors');
  const save = (value: Tensor): Promise<void> =>
    scope(() => saveSafetensors(odd, { 'model.layers.0.self_attn.q_proj': value, 'model.layers.1.self_attn.q_proj': value }));
  await save(normal([8, 8], { seed: 1 }));
  await refused(
    { covarianceFile: odd },
    { targets: ['q_proj'] },
    /the covariance of covarianceFile ".*" is of another shape; got \[8, 8\]/,
  );
  await save(mul(normal([32, 32], { seed: 1 }), Number.NaN));
  await refused({ covarianceFile: odd }, { targets: ['q_proj'] }, /is not finite/, 'non-finite');
  t.is(new Map(model.network.namedModules()).get('model.layers.0.self_attn.q_proj')?.constructor.name, 'Linear');
  model.dispose();
});

class Pair extends Module {
  first = new Linear(10, 12, { seed: 1 });
  second = new Linear(12, 6, { seed: 2 });
  unused = new Linear(12, 6, { seed: 3 });

  forward(x: Tensor): Tensor {
    return this.second.forward(relu(this.first.forward(x)));
  }
}

test.serial('a matrix is one sample; a limit of samples leaves the rest alone', async (t) => {
  await scope(async () => {
    const x = normal([3, 7, 10], { seed: 1 });
    const sumOf = async (parts: readonly Tensor[]): Promise<Tensor> => {
      const total = new CovarianceSum('layer', 'max');
      for (const part of parts) total.add(part, undefined);
      return total.mean();
    };
    const split = [0, 1, 2].map((i) => narrow(x, 0, i, 1));
    t.true((await apart(await sumOf([x]), await sumOf(split))) < 1e-5);
    const bitsOf = async (batches: readonly Tensor[], init: object = {}): Promise<Float32Array> => {
      const config = { type: 'lora', rank: 2, alpha: 2, targets: ['first', 'second'], init: { type: 'corda', ...init } } as AdapterConfig;
      const network = new Pair();
      const set = await attach(network, config, { data: { batches, forward: (batch: unknown) => network.forward(batch as Tensor) } });
      const bits = ((await (set.parameters()[0] as Tensor).data()) as Float32Array).slice();
      network.dispose();
      return bits;
    };
    const two = narrow(x, 0, 0, 2);
    t.true(sameBits(await bitsOf([x], { samples: 2 }), await bitsOf([two])));
    t.false(sameBits(await bitsOf([x]), await bitsOf([two])));
    const flat = concat([narrow(x, 0, 0, 1), narrow(x, 0, 1, 1)], 1);
    t.true(
      sameBits(
        await bitsOf([narrow(flat, 0, 0, 1)]),
        await bitsOf([mul(unsqueeze(tensor(await numbers(flat), { shape: [14, 10] }), 0), 1)]),
      ),
    );
    t.false(sameBits(await bitsOf([x]), await bitsOf([x], { normaliser: 'maxabs' })));
  });
});

test.serial('a sample of padding alone is none, in the sum, in the mean and in the limit of samples', async (t) => {
  await scope(async () => {
    const x = normal([3, 7, 10], { seed: 1 });
    const bitsOf = async (batch: Tensor, empty: readonly number[], samples: number | null = null): Promise<Float32Array> => {
      const config = { type: 'lora', rank: 2, alpha: 2, targets: ['first'], init: { type: 'corda', samples } } as AdapterConfig;
      const network = new Pair();
      const counts = (): boolean[] => Array.from({ length: (batch.shape[0] ?? 0) * 7 }, (_, row) => !empty.includes(Math.floor(row / 7)));
      const forward = (each: unknown): Tensor => network.forward(each as Tensor);
      const set = await attach(network, config, { data: { batches: [batch], forward, counts } });
      const bits = ((await (set.parameters()[0] as Tensor).data()) as Float32Array).slice();
      network.dispose();
      return bits;
    };
    const [first, last] = [narrow(x, 0, 0, 1), narrow(x, 0, 2, 1)];
    t.true(sameBits(await bitsOf(x, [1]), await bitsOf(concat([first, last]), [])));
    t.true(sameBits(await bitsOf(x, [0], 1), await bitsOf(narrow(x, 0, 1, 1), [])));
    await t.throwsAsync(bitsOf(x, [0, 1, 2]), { code: 'config', message: /no sample of the data reaches "first"/ });
  });
});

test.serial('the network computes as in inference, whatever its mode, and dropout is warned of', async (t) => {
  class Dropping extends Pair {
    drop = new Dropout(0.5);
    override forward(x: Tensor): Tensor {
      return super.forward(this.drop.forward(x));
    }
  }
  const found: number[][] = [];
  const warned = new Promise<string>((resolve) => process.once('warning', ({ message }) => resolve(message)));
  for (const training of [false, true]) {
    const network = new Dropping().train(training);
    const config = { type: 'lora', rank: 2, alpha: 2, dropout: training ? 0.1 : 0, targets: ['first', 'second'], init: 'corda' } as const;
    const forward = (batch: unknown): Tensor => network.forward(batch as Tensor);
    const set = await attach(network, config, { data: { batches: [normal([20, 10], { seed: 1 })], forward } });
    found.push((await Promise.all([...set.namedParameters()].map(([, value]) => numbers(value)))).flat());
    t.is(network.drop.training, training);
    network.dispose();
  }
  t.deepEqual(found[1], found[0]);
  t.regex(await warned, /^corda: dropout drops parts of the weights/);
});

test.serial('what it refuses', async (t) => {
  const model = await loadTiny();
  const refused = (init: object, message: RegExp, options: object = {}, rest: AttachOptions = { data: alone }, code = 'config') =>
    t.throwsAsync(started(model, init, options, rest), { code, message });
  await refused({ method: 'kmp' }, /corda: method must be "ipm" or "kpm"; got "kmp"/);
  await refused({ precision: 'bf16' }, /corda: precision must be null or "f32" or "f64"/);
  await refused({ normaliser: 'mean' }, /corda: normaliser must be "max" or "maxabs"; got "mean"/);
  await refused({ sigmaFuse: 'w' }, /corda: sigmaFuse must be/);
  await refused({ samples: 0 }, /corda: samples must be null or a positive whole number; got 0/);
  await refused({ method: 'kpm', niter: 4 }, /niter finds the largest components/);
  await refused({ inputsAtOnce: 2, covarianceFile: 'x' }, /expected inputsAtOnce null/);
  await refused({ cacheFile: '' }, /cacheFile must be null or the name of a file/);
  await refused({}, /init "corda" looks at data; expected batches/, {}, {});
  await refused({}, /cannot give "model.layers.0.self_attn.k_proj" rank 20; its weight is \[16, 32\], expected at most 16/, { rank: 20 });
  await refused({}, /init "corda" starts linear layers; got target "model.embed_tokens"/, { targets: ['embed_tokens'] });
  await refused({}, /init "corda" changes the frozen weight, from which dora/, { dora: true });
  await refused({}, /the data hold no batch/, {}, { data: [] }, 'invalid-argument');
  await refused({}, /corda: cancelled/, {}, { data: alone, signal: AbortSignal.abort() }, 'cancelled');
  model.dispose();
  const quantised = await loadModel(join(golden, 'models/llama-gqa-tied'), { dtype: 'nf4' });
  await t.throwsAsync(started(quantised, {}), { code: 'adapter', message: /is stored as nf4/ });
  quantised.dispose();
});

test.serial('inputs that cannot be used name the layer', async (t) => {
  const network = new Pair();
  const refused = (batch: Tensor, message: RegExp, code: string, targets: readonly string[] = ['first'], init: object = {}) =>
    t.throwsAsync(
      attach(network, { type: 'lora', rank: 2, alpha: 2, targets, init: { type: 'corda', ...init } } as unknown as AdapterConfig, {
        data: { batches: [batch], forward: (x: unknown) => network.forward(x as Tensor) },
      }),
      { code, message },
    );
  const x = normal([20, 10], { seed: 1 });
  await refused(x, /no sample of the data reaches "unused"/, 'config', ['first', 'unused']);
  await refused(
    scope(() => mul(x, Number.NaN)),
    /the input of "first" is not finite/,
    'non-finite',
  );
  const negative = scope(() => mul(relu(x), -1));
  await refused(negative, /the largest entry of a sample of the input of "first" is 0.*try normaliser "maxabs"/, 'non-finite');
  const config = { type: 'lora', rank: 2, alpha: 2, targets: ['first'], init: { type: 'corda', normaliser: 'maxabs' } } as AdapterConfig;
  const set = await attach(network, config, {
    data: { batches: [negative], forward: (batch: unknown) => network.forward(batch as Tensor) },
  });
  t.is(set.parameters().length, 2);
  network.dispose();
});
