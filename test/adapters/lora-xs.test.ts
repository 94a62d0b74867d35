// LoRA-XS beyond what every method promises: what it computes and keeps, its files, and training that goes on.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import {
  type AdapterConfig,
  attach,
  estimate,
  loadAdapter,
  loadModel,
  type Model,
  restoreState,
  saveState,
  type TunedModel,
  train,
} from 'lorikeet';
import { svd } from 'lorikeet/linalg';
import { Linear, Module } from 'lorikeet/nn';
import { clone, mul, narrow, sum, tensor } from 'lorikeet/ops';
import { AdamW } from 'lorikeet/optim';
import type { LoraXsLinear } from '#dist/adapters/lora-xs-linear.js';
import { resolveConfig } from '#dist/adapters/resolve-config.js';
import { planAdapter } from '#dist/estimate/targets.js';
import { loadSafetensors, saveSafetensors } from '#dist/io/safetensors.js';
import { readSafetensorsHeader } from '#dist/io/safetensors-files.js';
import { matmul, type PackedWeight } from '#dist/ops/linalg.js';
import { fill } from '#dist/ops/shape.js';
import { memory, noGrad, scope, synchronize } from '#dist/scope.js';
import type { DType, Tensor } from '#dist/tensor.js';
import { loadTiny, logitsOf, relativeError, sameBits, temporaryFolder } from '../helpers/adapters.js';
import { centralDifferences } from '../helpers/gradient-check.js';
import { numbersOf, type OpCase, outputWeights } from '../helpers/op-case.js';
import { perturb } from '../helpers/perturb.js';
import { settledBytes } from '../helpers/settled-bytes.js';
import { shippedModel, shippedRows } from '../helpers/shipped.js';
import { noise } from '../helpers/tiny-network.js';

const ids = [3, 17, 42, 5, 8, 80];
const q = 'model.layers.0.self_attn.q_proj';

class Single extends Module {
  layer: Linear;

  constructor(inputs: number, outputs: number, dtype: DType = 'f32') {
    super();
    this.layer = new Linear(inputs, outputs, { dtype, seed: 3 });
    this.freeze();
  }
}

async function onSingle(network: Single, options: object): Promise<LoraXsLinear> {
  const set = await attach(network, { type: 'lora-xs', targets: ['layer'], ...options } as AdapterConfig);
  return set.get('default').placements[0]?.module as LoraXsLinear;
}

test.serial('gradients of R_w and of the input are those of central differences; nothing else gets one', async (t) => {
  const network = new Single(9, 7, 'f64');
  const module = await onSingle(network, { rank: 3, alpha: 6, init: 'random' });
  const run = (x: Tensor, latent: Tensor): Tensor => {
    module.lora_latent_mapping.weight = latent;
    return network.layer.forward(x);
  };
  const inputs = [noise([5, 9], 1, 'f64').setRequiresGrad(true), noise([3, 3], 2, 'f64').setRequiresGrad(true)] as const;
  const opCase = { name: 'lora-xs', covers: [], inputs: [], run } as unknown as OpCase;
  const expected = centralDifferences(opCase, inputs);
  scope(() => {
    const y = run(...inputs);
    sum(mul(y, tensor(outputWeights(y.shape, 0), { shape: y.shape, dtype: 'f64' }))).backward();
  });
  for (const [i, input] of inputs.entries()) t.true(relativeError(numbersOf(input.grad as Tensor), expected[i] as number[]) < 1e-7);
  for (const frozen of [module.lora_A.weight, module.lora_B.weight]) t.true(!frozen.requiresGrad && frozen.grad === undefined);
  t.is(network.trainableParameters().length, 0);
});

test.serial('backward keeps the product with A, [rows, R], and nothing of the input', async (t) => {
  const [rows, inputs, outputs, rank] = [512, 256, 64, 4];
  for (const dropout of [0, 0.1]) {
    const network = new Single(inputs, outputs);
    await onSingle(network, { rank, dropout });
    const leaf = noise([rows, inputs], 1).setRequiresGrad(true);
    const forward = (): Tensor => scope(() => network.layer.forward(mul(leaf, 2), { training: true }));
    // The first pass packs what later ones find.
    scope(() => sum(forward()).backward());
    const before = await settledBytes();
    const y = forward();
    await synchronize();
    const kept = memory().bytes - before - 4 * rows * outputs;
    const z = 4 * rows * rank;
    // Beside it B R_w, which does not grow with the rows.
    t.true(kept >= z && kept <= z + 4 * outputs * rank + 4096, `${kept} for ${z}`);
    y.dispose();
  }
});

test.serial('with R_w zero the model is the base, bit for bit', async (t) => {
  const model = await loadTiny();
  const base = await logitsOf(model, ids);
  for (const init of ['svd', 'random', { type: 'svd', niter: null }] as const) {
    const tuned = await attach(model, { type: 'lora-xs', rank: 4, init });
    t.true(relativeError(await logitsOf(tuned, ids), base) < 1e-3);
    noGrad(() => tuned.parameters().forEach((latent) => void fill(latent, 0)));
    t.true(sameBits(await logitsOf(tuned, ids), base));
    tuned.dispose();
  }
  model.dispose();
});

test.serial('from the singular vectors B A is the truncated weight', async (t) => {
  const network = new Single(20, 12);
  const weight = network.layer.weight as PackedWeight;
  const { u, s, vt } = svd(weight.unpack());
  const expected = matmul(mul(narrow(u, 1, 0, 5), narrow(s, 0, 0, 5)), narrow(vt, 0, 0, 5));
  const { lora_A: a, lora_B: b } = await onSingle(network, { rank: 5, init: { type: 'svd', niter: null } });
  t.true(relativeError(numbersOf(noGrad(() => matmul(b.weight, a.weight))), numbersOf(expected)) < 1e-5);
});

test.serial('numbers to train are the sum of r²: of a 7B model, by layer, and what remains to read', async (t) => {
  const mistral = {
    model_type: 'mistral',
    vocab_size: 32000,
    hidden_size: 4096,
    intermediate_size: 14336,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    num_key_value_heads: 8,
    rms_norm_eps: 1e-5,
    max_position_embeddings: 32768,
    sliding_window: null,
  };
  const resolved = resolveConfig({ type: 'lora-xs', rank: 2, rankPattern: { q_proj: 3 } });
  const { size } = await planAdapter(mistral, resolved);
  t.is(size?.parameters, 192 * 4 + 32 * 9);
  t.is(size?.bytes, 4 * (192 * 4 + 32 * 9));
  const model = await loadTiny();
  const tuned = await attach(model, { type: 'lora-xs', rank: 4 });
  t.is(tuned.table().length, 14);
  t.true(tuned.table().every(({ parameters }) => parameters === 16));
  t.is(
    tuned.adapters.parameters().reduce((all, { size: each }) => all + each, 0),
    14 * 16,
  );
  model.dispose();
});

test.serial('an estimate tells the numbers and the memory of a run', async (t) => {
  const adapter = { type: 'lora-xs', rank: 4, init: { type: 'lora-sb', eta: 1 } } as const;
  const { trainableParameters, peakBytes } = await estimate({ model: shippedModel, adapter, training: { batch: 1, sequence: 16 } });
  t.is(trainableParameters, 5 * 7 * 16);
  t.is(peakBytes.gradients, 4 * trainableParameters);
  t.is(peakBytes.optimizer, 8 * trainableParameters);
  t.true(peakBytes.adapter > 100 * trainableParameters);
});

/** A perturbed adapter with a rank and an alpha of its own for one kind of layer. */
async function perturbed(model: Model): Promise<TunedModel> {
  const tuned = await attach(model, { type: 'lora-xs', rank: 4, rankPattern: { q_proj: 6 }, alphaPattern: { o_proj: 2 } });
  perturb(tuned);
  return tuned;
}

test.serial('published it is plain LoRA of the same ranks and scales; native it is three factors to train on', async (t) => {
  const model = await loadTiny();
  const tuned = await perturbed(model);
  const adapted = await logitsOf(tuned, ids);
  const [published, native] = [join(temporaryFolder(), 'published'), join(temporaryFolder(), 'native')];
  await tuned.save(published);
  await tuned.save(native, { form: 'native' });
  const before = [...tuned.namedParameters()].map(([name, value]) => [name, value.dataSync() as Float32Array] as const);
  tuned.dispose();

  t.like(JSON.parse(readFileSync(join(published, 'adapter_config.json'), 'utf8')), {
    peft_type: 'LORA',
    r: 4,
    lora_alpha: 4,
    rank_pattern: { q_proj: 6 },
    alpha_pattern: { o_proj: 2, q_proj: 6 },
    init_lora_weights: true,
  });
  t.false(existsSync(join(published, 'reconstr_config.json')));
  const names = [...readSafetensorsHeader(join(native, 'adapter_model.safetensors')).tensors.keys()].filter((name) => name.includes(q));
  await t.throwsAsync(savedSplit(model), { code: 'adapter', message: /form "split" is of one adapter that took a part out/ });
  t.deepEqual(names.sort(), [
    `base_model.model.${q}.lora_A.weight`,
    `base_model.model.${q}.lora_B.weight`,
    `base_model.model.${q}_lora_latent_mapping.weight`,
  ]);
  t.like(JSON.parse(readFileSync(join(native, 'reconstr_config.json'), 'utf8')), { reconstruction_type: 'svd', rank: 4, r_squared: true });

  const plain = await loadAdapter(model, published);
  t.is(plain.adapters.get('default').method.name, 'lora');
  t.true(sameBits(await logitsOf(plain, ids), adapted));
  plain.dispose();

  const loaded = await loadAdapter(model, native);
  t.is(loaded.adapters.get('default').method.name, 'lora-xs');
  t.true(sameBits(await logitsOf(loaded, ids), adapted));
  for (const [i, [name, value]] of [...loaded.namedParameters()].entries()) {
    t.is(name, before[i]?.[0] ?? '');
    t.true(sameBits(value.dataSync() as Float32Array, before[i]?.[1] as Float32Array), name);
  }
  const again = join(temporaryFolder(), 'again');
  await loaded.save(again, { form: 'native' });
  for (const file of ['adapter_config.json', 'adapter_model.safetensors', 'reconstr_config.json'])
    t.deepEqual(readFileSync(join(again, file)), readFileSync(join(native, file)), file);
  model.dispose();
});

async function savedSplit(model: Model): Promise<void> {
  const tuned = await perturbed(model);
  try {
    await tuned.save(join(temporaryFolder(), 'split'), { form: 'split' });
  } finally {
    tuned.dispose();
  }
}

/** A native folder whose config and tensors were changed. */
async function changed(model: Model, change: (config: Record<string, unknown>, tensors: Map<string, Tensor>) => void): Promise<string> {
  const tuned = await perturbed(model);
  const folder = join(temporaryFolder(), 'native');
  await tuned.save(folder, { form: 'native' });
  tuned.dispose();
  const [configFile, weights] = [join(folder, 'adapter_config.json'), join(folder, 'adapter_model.safetensors')];
  const config = JSON.parse(readFileSync(configFile, 'utf8')) as Record<string, unknown>;
  const tensors = new Map([...(await loadSafetensors(weights))].map(([name, value]) => [name, clone(value)]));
  change(config, tensors);
  writeFileSync(configFile, JSON.stringify(config));
  await saveSafetensors(weights, tensors, { format: 'pt' });
  return folder;
}

const latentName = `base_model.model.${q}_lora_latent_mapping.weight`;

test.serial('files of the reference implementation are recognised by their tensors', async (t) => {
  const model = await loadTiny();
  const tuned = await perturbed(model);
  const reference = await logitsOf(tuned, ids);
  tuned.dispose();
  const folder = await changed(model, (config, tensors) => {
    delete config.latent;
    for (const [name, value] of [...tensors]) {
      if (!name.endsWith('_lora_latent_mapping.weight')) continue;
      tensors.delete(name);
      tensors.set(name.replace('_lora_latent', '.default_lora_latent'), value);
    }
  });
  const loaded = await loadAdapter(model, folder);
  t.is(loaded.adapters.get('default').method.name, 'lora-xs');
  t.true(sameBits(await logitsOf(loaded, ids), reference));
  model.dispose();
});

test.serial('a latent tensor that is missing or misshapen is an error, and what plain LoRA has beside it', async (t) => {
  const model = await loadTiny();
  const refused = async (change: Parameters<typeof changed>[1], code: string, message: RegExp): Promise<void> => {
    await t.throwsAsync(loadAdapter(model, await changed(model, change)), { code, message } as never);
  };
  await refused((_, tensors) => tensors.delete(latentName), 'adapter', /missing in the file \(1\):\n.*q_proj\.lora_latent_mapping\.weight/);
  await refused(
    (_, tensors) => tensors.set(latentName, noise([5, 6], 1)),
    'adapter',
    /of another shape \(1\):\n.*lora_latent_mapping.weight: got \[5, 6\], expected \[6, 6\]/,
  );
  await refused(
    (_, tensors) => void [...tensors.keys()].filter((name) => name.includes('latent')).map((name) => tensors.delete(name)),
    'adapter',
    /missing in the file \(14\)/,
  );
  await refused((config) => Object.assign(config, { use_dora: true }), 'config', /"use_dora" does not go with a latent mapping/);
  await refused((config) => Object.assign(config, { bias: 'all' }), 'config', /"bias" does not go with a latent mapping/);
  model.dispose();
});

test.serial('combined with others it counts as the plain LoRA that it is', async (t) => {
  const model = await loadTiny();
  const tuned = await perturbed(model);
  const alone = await logitsOf(tuned, ids);
  await attach(tuned, { type: 'lora', rank: 2 }, { name: 'other', seed: 4 });
  await tuned.combine('both', [
    { adapter: 'default', weight: 1 },
    { adapter: 'other', weight: 1 },
  ]);
  t.true(relativeError(await logitsOf(tuned, ids), alone) < 1e-5);
  tuned.activate('default');
  tuned.setScale('default', 0);
  const base = await logitsOf(tuned, ids);
  tuned.disable();
  t.true(relativeError(await logitsOf(tuned, ids), base) < 1e-6);
  model.dispose();
});

test.serial('a state holds all three factors: training goes on with the same bits from another start', async (t) => {
  const folder = join(temporaryFolder(), 'state');
  const steps = async (tuned: TunedModel, optimizer: AdamW): Promise<number[]> => {
    const losses: number[] = [];
    for (let step = 0; step < 3; step++) {
      scope(() => {
        const loss = tuned.loss({ ids: [ids], training: true });
        loss.backward();
        optimizer.step();
        optimizer.zeroGrad();
        losses.push(loss.dataSync()[0] as number);
      });
    }
    return losses;
  };
  const run = async (config: object, work: (tuned: TunedModel, optimizer: AdamW) => Promise<number[]>): Promise<number[]> => {
    const model = await loadTiny();
    const tuned = await attach(model, { type: 'lora-xs', rank: 4, dropout: 0.2, ...config });
    const losses = await work(tuned, new AdamW(tuned.parameters(), { learningRate: 1e-2 }));
    model.dispose();
    return losses;
  };
  const straight = await run({}, async (tuned, optimizer) => {
    await steps(tuned, optimizer);
    await saveState(folder, { model: tuned, optimizer });
    return steps(tuned, optimizer);
  });
  const resumed = await run({ init: 'random' }, async (tuned, optimizer) => {
    await restoreState(folder, { model: tuned, optimizer });
    return steps(tuned, optimizer);
  });
  t.deepEqual(resumed, straight);
});

async function refusedOn(t: ExecutionContext, model: Model, config: object, message: RegExp): Promise<void> {
  await t.throwsAsync(attach(model, { type: 'lora-xs', ...config } as AdapterConfig), { code: 'config', message });
}

test.serial('what cannot work is refused', async (t) => {
  const model = await loadTiny();
  await refusedOn(t, model, { rank: 17 }, /lora-xs: cannot give ".*k_proj" rank 17; its weight is \[16, 32\], expected at most 16/);
  await refusedOn(t, model, { rank: 0 }, /lora-xs: rank must be a positive integer; got 0/);
  await refusedOn(t, model, { init: 'pissa' }, /lora-xs: unknown init; got "pissa", expected "svd", "random", "lora-sb"/);
  await refusedOn(t, model, { init: null }, /lora-xs: unknown init; got null/);
  await refusedOn(t, model, { init: { type: 'svd', niter: -1 } }, /niter must be null or a whole number; got -1/);
  await refusedOn(t, model, { targets: ['embed_tokens'] }, /embed_tokens/);
  await refusedOn(t, model, { rankPattern: { q_prj: 2 } }, /lora-xs: rankPattern key "q_prj" decides for no adapted layer.*q_proj/);
  await refusedOn(t, model, { init: 'lora-sb' }, /lora-sb: the learning rate of the first update is not known; expected eta/);
  model.dispose();
});

test.serial('a run trains it, and its folder computes as the trained model', async (t) => {
  const model = await loadModel(shippedModel);
  const tuned = await attach(model, { type: 'lora-xs', rank: 8, targets: 'all-linear' });
  const out = join(temporaryFolder(), 'run');
  const { losses } = await losing(tuned, out);
  t.true((losses.at(-1) as number) < (losses[0] as number) - 0.02, losses.join());
  const trained = await logitsOf(tuned, [1, 403, 407, 261]);
  tuned.dispose();
  const loaded = await loadAdapter(model, join(out, 'adapter'));
  t.true(sameBits(await logitsOf(loaded, [1, 403, 407, 261]), trained));
  model.dispose();
});

async function losing(tuned: TunedModel, out: string): Promise<{ losses: number[] }> {
  const losses: number[] = [];
  const training = { steps: 12, batch: 2, sequence: 32, learningRate: 1e-2 };
  for await (const { loss } of train(tuned, { data: { train: { rows: shippedRows(2) } }, training, out })) losses.push(loss);
  return { losses };
}
