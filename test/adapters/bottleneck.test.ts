import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { type AdapterConfig, attach, type BottleneckConfig, loadAdapter, type Tensor } from 'lorikeet';
import { Linear, Module } from 'lorikeet/nn';
import { readSafetensorsHeader } from '#dist/io/safetensors-files.js';
import type { Role } from '#dist/nn/role.js';
import { tensor } from '#dist/ops/create.js';
import { cast, clone, mul, square, sub } from '#dist/ops/elementwise.js';
import { mean, sum } from '#dist/ops/reduce.js';
import { copyInto } from '#dist/ops/shape.js';
import { noGrad, scope } from '#dist/scope.js';
import type { DType } from '#dist/tensor.js';
import { loadTiny, logitsOf, relativeError, sameBits, temporaryFolder } from '../helpers/adapters.js';
import { perturb } from '../helpers/perturb.js';
import { noise } from '../helpers/tiny-network.js';

const ids = [3, 17, 42, 5, 8, 80];

/** One linear layer with a role. */
class One extends Module {
  layer: Linear;

  constructor(inputs: number, outputs: number, role: Role, dtype: DType = 'f32', init: 'random' | 'none' = 'random') {
    super();
    this.layer = new Linear(inputs, outputs, { role, dtype, seed: 7, init });
    if (init === 'random') this.freeze();
  }
}

const positions = [
  { name: 'before', role: 'mlp.up', config: {} },
  { name: 'after', role: 'mlp.down', config: {} },
  { name: 'parallel', role: 'attention.query', config: { parallel: true } },
] as const;

const floats = (x: Tensor): Float64Array => Float64Array.from(x.dataSync() as Float64Array);
const bottleneck = (config: Partial<BottleneckConfig> = {}): AdapterConfig => ({ type: 'bottleneck', ...config });

test('the published numbers of parameters', async (t) => {
  const shapes: Record<string, { layers: number; hidden: number; linear: Record<string, [number, number, Role]> }> = {};
  const llama = (layers: number, hidden: number, inner: number): (typeof shapes)[string] => ({
    layers,
    hidden,
    linear: {
      q_proj: [hidden, hidden, 'attention.query'],
      k_proj: [hidden, hidden, 'attention.key'],
      v_proj: [hidden, hidden, 'attention.value'],
      gate_proj: [hidden, inner, 'mlp.gate'],
      up_proj: [hidden, inner, 'mlp.up'],
      down_proj: [inner, hidden, 'mlp.down'],
    },
  });
  shapes['llama-7b'] = llama(32, 4096, 11008);
  shapes['llama-13b'] = llama(40, 5120, 13824);
  shapes['bloom-7b1'] = {
    layers: 30,
    hidden: 4096,
    linear: {
      query_key_value: [4096, 12288, 'attention.query'],
      dense_h_to_4h: [4096, 16384, 'mlp.up'],
      dense_4h_to_h: [16384, 4096, 'mlp.down'],
    },
  };
  shapes['gpt-j'] = {
    layers: 28,
    hidden: 4096,
    linear: {
      q_proj: [4096, 4096, 'attention.query'],
      k_proj: [4096, 4096, 'attention.key'],
      v_proj: [4096, 4096, 'attention.value'],
      fc_in: [4096, 16384, 'mlp.up'],
      fc_out: [16384, 4096, 'mlp.down'],
    },
  };
  const published: [keyof typeof shapes, AdapterConfig, number][] = [
    ['llama-7b', bottleneck(), 201_326_592],
    ['llama-7b', bottleneck({ adapterP: true }), 67_108_864],
    ['llama-7b', bottleneck({ parallel: true }), 201_326_592],
    ['llama-7b', { type: 'lora', rank: 8 }, 4_194_304],
    ['llama-13b', bottleneck(), 314_572_800],
    ['llama-13b', bottleneck({ adapterP: true }), 104_857_600],
    ['llama-13b', { type: 'lora', rank: 8 }, 6_553_600],
    ['bloom-7b1', bottleneck(), 125_829_120],
    ['bloom-7b1', bottleneck({ parallel: true }), 125_829_120],
    ['gpt-j', bottleneck(), 117_440_512],
    ['gpt-j', bottleneck({ adapterP: true }), 58_720_256],
    ['gpt-j', bottleneck({ parallel: true }), 176_160_768],
    ['gpt-j', { type: 'lora', rank: 8 }, 3_670_016],
  ];
  for (const [name, config, expected] of published) {
    const { layers, linear } = shapes[name] as (typeof shapes)[string];
    const block = new (class extends Module {})();
    for (const [key, [inputs, outputs, role]] of Object.entries(linear))
      block.setChild(key, new Linear(inputs, outputs, { role, bias: false, init: 'none' }));
    const set = await attach(block, config);
    t.is(set.table().reduce((total, { parameters }) => total + parameters, 0) * layers, expected, `${name} ${JSON.stringify(config)}`);
    set.dispose();
  }
});

for (const { name, role, config } of positions) {
  test(`${name}: y is what the paper says`, async (t) => {
    const network = new One(6, 5, role, 'f64');
    const set = await attach(network, bottleneck({ ...config, bottleneckSize: 3, scaling: 0.7 }));
    perturb(set);
    scope(() => {
      const x = noise([4, 6], 1, 'f64');
      const y = floats(network.layer.forward(x));
      const named = new Map(set.namedParameters());
      const matrix = (end: string): Float64Array => floats(named.get(`layer.${end}`) as Tensor);
      const [down, up] = [matrix('adapter_down.weight'), matrix('adapter_up.weight')];
      const times = (w: Float64Array, z: number[]): number[] =>
        Array.from({ length: w.length / z.length }, (_, o) =>
          z.reduce((total, value, i) => total + value * (w[o * z.length + i] as number), 0),
        );
      const a = (z: number[]): number[] => times(up, times(down, z).map(Math.tanh)).map((value) => 0.7 * value);
      const added = (one: number[], other: number[]): number[] => one.map((value, i) => value + (other[i] as number));
      set.disable();
      const base = (z: number[]): number[] => [...floats(network.layer.forward(tensor([z], { dtype: 'f64' })))];
      for (let row = 0; row < 4; row++) {
        const own = [...floats(x)].slice(row * 6, row * 6 + 6);
        const wanted = name === 'before' ? base(added(own, a(own))) : added(base(own), a(name === 'after' ? base(own) : own));
        for (const [i, value] of wanted.entries()) t.true(Math.abs((y[row * 5 + i] as number) - value) < 1e-12);
      }
    });
    set.dispose();
    network.dispose();
  });

  test(`${name}: mam_adapter starts as the identity, bert does not, scaling 0 and disabled are the base`, async (t) => {
    const network = new One(64, 48, role);
    const x = noise([32, 64], 1);
    const base = network.layer.forward(x);
    const run = async (
      options: Partial<BottleneckConfig>,
      change?: (set: Awaited<ReturnType<typeof start>>) => void,
    ): Promise<Float32Array> => {
      const set = await start(options);
      change?.(set);
      const y = Float32Array.from(scope(() => network.layer.forward(x).dataSync() as Float32Array));
      set.enable();
      set.dispose();
      return y;
    };
    const start = (options: Partial<BottleneckConfig>) => attach(network, bottleneck({ ...config, ...options }), { seed: 3 });
    const pristine = base.dataSync() as Float32Array;
    t.true(sameBits(await run({ init: 'mam_adapter' }), pristine));
    t.true(sameBits(await run({ scaling: 0 }, perturb), pristine));
    t.true(
      sameBits(
        await run({}, (set) => {
          perturb(set);
          set.disable();
        }),
        pristine,
      ),
    );
    t.true(
      sameBits(
        await run({}, (set) => {
          perturb(set);
          set.setScale('default', 0);
        }),
        pristine,
      ),
    );
    const scale = 1.5;
    const started = await run({ scaling: scale });
    const input = name === 'after' ? base : x;
    const moved = scope(() => {
      const difference = sub(tensor(started, { shape: base.shape }), base);
      return Math.sqrt(mean(square(difference)).dataSync()[0] as number);
    });
    const spread = Math.sqrt(scope(() => mean(square(input)).dataSync()[0] as number) * (input.shape[1] as number)) * 0.02;
    const one = scale * 0.02 * Math.sqrt(256 * meanSquareOfTanh(spread));
    // In front of the layer the change goes through its weight, uniform within 1 / sqrt(K).
    const predicted = name === 'before' ? one * Math.sqrt(64) * (1 / Math.sqrt(3 * 64)) : one;
    t.true(Math.abs(moved / predicted - 1) < 0.2, `${moved} against ${predicted}`);
    base.dispose();
    x.dispose();
    network.dispose();
  });

  test(`${name}: gradients are those of central differences`, async (t) => {
    for (const nonLinearity of ['tanh', 'gelu']) {
      const network = new One(4, 3, role, 'f64');
      const set = await attach(network, bottleneck({ ...config, nonLinearity, bottleneckSize: 2, scaling: 'learned' }));
      perturb(set);
      const x = noise([5, 4], 2, 'f64').setRequiresGrad(true);
      const weights = noise([5, 3], 3, 'f64');
      const loss = (): Tensor => sum(mul(network.layer.forward(x), weights));
      scope(() => loss().backward());
      const inputs = [['x', x] as const, ...set.namedParameters()];
      t.is(inputs.length, 4);
      for (const [label, value] of inputs) {
        const gradient = floats(value.grad as Tensor);
        const numbers = floats(value);
        const largest = Math.max(...gradient.map(Math.abs));
        for (const [i, number] of numbers.entries()) {
          const at = (by: number): number => {
            const moved = Float64Array.from(numbers);
            moved[i] = number + by;
            return scope(() =>
              noGrad(() => {
                copyInto(value, tensor(moved, { shape: value.shape, dtype: 'f64' }));
                return loss().dataSync()[0] as number;
              }),
            );
          };
          const slope = (at(1e-5) - at(-1e-5)) / 2e-5;
          at(0);
          t.true(Math.abs(slope - (gradient[i] as number)) < 1e-6 * largest, `${label} ${i}`);
        }
      }
      set.dispose();
      network.dispose();
    }
  });

  test(`${name}: without activation it merges into the weights`, async (t) => {
    const network = new One(24, 16, role);
    const set = await attach(network, bottleneck({ ...config, nonLinearity: 'identity', bottleneckSize: 4, scaling: 'learned' }));
    await attach(set, { type: 'lora', rank: 2, targets: ['layer'] }, { name: 'lora' });
    set.activate(['default', 'lora']);
    perturb(set);
    const x = noise([8, 24], 4);
    const run = (): Float32Array => Float32Array.from(scope(() => network.layer.forward(x).dataSync() as Float32Array));
    const adapted = run();
    const { maxError } = await set.merge();
    t.true(maxError < 1e-5);
    t.true(relativeError(run(), adapted) < 1e-5);
    set.unmerge();
    t.true(sameBits(run(), adapted));
    set.dispose();
    network.dispose();
  });
}

/** E tanh(s z)² for normal z. */
function meanSquareOfTanh(s: number): number {
  let [total, weight] = [0, 0];
  for (let z = -8; z <= 8; z += 0.001) {
    const density = Math.exp((-z * z) / 2);
    total += density * Math.tanh(s * z) ** 2;
    weight += density;
  }
  return total / weight;
}

test('next to a layer and without activation it is LoRA with A = D, B = U and alpha = rank * scaling', async (t) => {
  const network = new One(24, 16, 'attention.query');
  const x = noise([8, 24], 5);
  const run = (): Float32Array => Float32Array.from(scope(() => network.layer.forward(x).dataSync() as Float32Array));
  const set = await attach(network, bottleneck({ parallel: true, nonLinearity: 'linear', bottleneckSize: 4, scaling: 0.5 }));
  perturb(set);
  const values = new Map([...set.namedParameters()].map(([name, value]) => [name, clone(value)]));
  const expected = run();
  await set.merge();
  const merged = run();
  set.unmerge();
  set.dispose();
  const lora = await attach(network, { type: 'lora', rank: 4, alpha: 2, targets: ['layer'] });
  for (const [name, value] of lora.namedParameters()) {
    const own = name.replace('lora_A', 'adapter_down').replace('lora_B', 'adapter_up');
    noGrad(() => copyInto(value, values.get(own) as Tensor));
  }
  t.true(relativeError(run(), expected) < 1e-6);
  await lora.merge();
  t.true(relativeError(run(), merged) < 1e-6);
  lora.dispose();
  for (const value of values.values()) value.dispose();
  network.dispose();
});

test.serial('the tables of the paper by roles, and what a table cannot place', async (t) => {
  const model = await loadTiny();
  const layersOf = async (config: Partial<BottleneckConfig>): Promise<string[]> => {
    const tuned = await attach(model, bottleneck(config));
    const paths = tuned.table().map(({ path }) => path);
    tuned.dispose();
    return [...new Set(paths.map((path) => path.replace(/^.*\./, '')))];
  };
  t.deepEqual(await layersOf({}), ['gate_proj', 'up_proj', 'down_proj']);
  t.deepEqual(await layersOf({ adapterP: true }), ['down_proj']);
  t.deepEqual(await layersOf({ parallel: true }), ['q_proj', 'k_proj', 'v_proj']);
  t.deepEqual(await layersOf({ targets: ['o_proj'] }), ['o_proj']);
  await t.throwsAsync(attach(model, bottleneck({ targets: ['lm_head'] })), {
    code: 'config',
    message: /in series has no place at "lm_head"; got a layer of role head, expected mlp\.gate, mlp\.up, mlp\.down, .*or parallel: true/,
  });
  await t.throwsAsync(attach(model, bottleneck({ targets: ['embed_tokens'], parallel: true })), {
    code: 'config',
    message: /adapts linear layers/,
  });
  await t.throwsAsync(attach(model, bottleneck({ targets: ['dense_h_to_4h'] })), {
    code: 'config',
    message: /no module matches "dense_h_to_4h"/,
  });
  model.dispose();
});

test('options that cannot work are refused', async (t) => {
  const network = new One(6, 5, 'mlp.up');
  const cases: [Record<string, unknown>, RegExp][] = [
    [{ bottleneckSize: 0 }, /bottleneckSize is out of range; got 0, expected a positive integer/],
    [{ bottleneckSize: 2.5 }, /bottleneckSize/],
    [{ dropout: 1 }, /dropout is out of range; got 1, expected at least 0 and below 1/],
    [{ dropout: -0.1 }, /dropout/],
    [{ nonLinearity: 'tahn' }, /unknown nonLinearity; got "tahn".*did you mean "tanh"/],
    [{ nonLinearity: 'toString' }, /unknown nonLinearity/],
    [{ scaling: 'large' }, /scaling is of the wrong kind; got "large", expected a number or "learned"/],
    [{ init: 'xavier' }, /unknown init; got "xavier", expected "bert" or "mam_adapter"/],
    [{ bias: 'lora_only' }, /unknown bias mode; got "lora_only", expected "none" or "all" or "adapter_only"/],
    [{ parallel: true, adapterP: true }, /parallel and adapterP are two places/],
    [{ parallel: 'yes' }, /parallel is of the wrong kind/],
  ];
  for (const [config, message] of cases)
    await t.throwsAsync(attach(network, bottleneck(config as never)), { code: 'config', message }, JSON.stringify(config));
  network.dispose();
});

test.serial('files hold the names and keys of LLM-Adapters, and integers as scaling', async (t) => {
  const model = await loadTiny('models/llama-biases-untied');
  const tuned = await attach(model, bottleneck({ bottleneckSize: 4, scaling: 'learned', bias: 'adapter_only', nonLinearity: 'relu' }));
  perturb(tuned);
  const adapted = await logitsOf(tuned, ids);
  const folder = join(temporaryFolder(), 'adapter');
  await tuned.save(folder);
  tuned.dispose();
  const file = JSON.parse(readFileSync(join(folder, 'adapter_config.json'), 'utf8'));
  t.like(file, {
    peft_type: 'BOTTLENECK',
    task_type: 'CAUSAL_LM',
    inference_mode: true,
    bottleneck_size: 4,
    non_linearity: 'relu',
    adapter_dropout: 0,
    use_parallel_adapter: false,
    use_adapterp: false,
    scaling: 'learned',
    bias: 'adapter_only',
    init_weights: 'bert',
    target_modules: ['down_proj', 'gate_proj', 'up_proj'],
  });
  const { tensors } = readSafetensorsHeader(join(folder, 'adapter_model.safetensors'));
  const at = (end: string): readonly number[] | undefined => tensors.get(`base_model.model.model.layers.1.mlp.up_proj.${end}`)?.shape;
  t.deepEqual([at('adapter_down.weight'), at('adapter_up.weight'), at('adapter_scaling'), at('bias')], [[4, 32], [32, 4], [1], [48]]);
  const loaded = await loadAdapter(model, folder);
  t.true(sameBits(await logitsOf(loaded, ids), adapted));
  loaded.dispose();
  writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify({ ...file, bottleneck_size: 5 }));
  await t.throwsAsync(loadAdapter(model, folder), {
    code: 'adapter',
    message: /gate_proj\.adapter_down\.weight: got \[4, 32\], expected \[5, 32\]/,
  });
  writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify({ ...file, use_adapterp: true, target_modules: null }));
  await t.throwsAsync(loadAdapter(model, folder), {
    code: 'adapter',
    message: /unexpected in the file(.|\n)*gate_proj\.adapter_down\.weight/,
  });
  writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify({ ...file, scaling: '2' }));
  await t.throwsAsync(loadAdapter(model, folder), { code: 'config', message: /"scaling" must be a number or "learned"/ });
  model.dispose();
});

test.serial('in a model of bf16 the adapter computes in f32, and drops elements in training alone', async (t) => {
  const network = new One(64, 48, 'mlp.down', 'bf16');
  const set = await attach(network, bottleneck({ bottleneckSize: 8, dropout: 0.5, scaling: 'learned' }));
  perturb(set);
  scope(() => {
    for (const value of set.parameters()) t.is(value.dtype, 'f32');
    const x = cast(noise([8, 64], 6), 'bf16');
    const y = network.layer.forward(x);
    t.is(y.dtype, 'bf16');
    const values = (training: boolean): Float32Array => network.layer.forward(x, { training }).dataSync() as Float32Array;
    t.true(sameBits(values(false), values(false)));
    t.false(sameBits(values(true), values(true)));
  });
  set.dispose();
  network.dispose();
});
