import test from 'ava';
import { ConfigError, InvalidArgumentError, manualSeed, memory, noGrad, ShapeError, scope, type Tensor } from 'lorikeet';
import { logitsCrossEntropy, normal, tensor } from 'lorikeet/ops';
import type { EncoderNetwork, EncoderTask, HeadOptions } from '#dist/models/encoder.js';
import { createEncoder } from '#dist/models/encoders.js';
import { resampling } from '#dist/models/position-grid.js';
import { newVit } from '#dist/models/vit.js';
import { goldenEncoder, openEncoder } from '../helpers/encoders.js';
import { readJson } from '../helpers/folders.js';
import { near, numbers } from '../helpers/numbers.js';

interface Case {
  input: { shape: number[]; values: number[] };
  logits?: number[];
  cls?: number[];
  mean?: number[];
}

const casesOf = (name: string): Case[] => readJson<{ cases: Case[] }>(goldenEncoder(name), 'reference.json').cases;
const pixelsOf = ({ input }: Case): Tensor => tensor(Float32Array.from(input.values), { shape: input.shape });
const answer = (network: EncoderNetwork, pixels: Tensor): Promise<number[]> =>
  numbers(noGrad(() => network.forward({ pixels }, { training: false })));

const small = {
  model_type: 'vit',
  image_size: 8,
  patch_size: 4,
  num_channels: 1,
  hidden_size: 16,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  intermediate_size: 24,
};

// Images of the published size and of two others, whose positions are resampled.
for (const name of ['vit', 'timm-vit', 'timm-vit-average']) {
  test.serial(`${name}: logits as recorded`, async (t) => {
    const { network } = await openEncoder(goldenEncoder(name), 'classification');
    for (const recorded of casesOf(name)) {
      const got = await scope(() => answer(network, pixelsOf(recorded)));
      near(t, got, recorded.logits ?? [], 1e-4, recorded.input.shape.join(' x '));
    }
    network.dispose();
  });
}

test.serial('a file of the bare encoder: embeddings by pooling', async (t) => {
  const [recorded] = casesOf('vit-bare') as [Case];
  for (const [head, expected] of [
    [{}, recorded.cls],
    [{ pooling: { mode: 'mean' } }, recorded.mean],
  ] as [HeadOptions, number[]][]) {
    const { network } = await openEncoder(goldenEncoder('vit-bare'), 'embedding', { head });
    near(t, await scope(() => answer(network, pixelsOf(recorded))), expected, 1e-4, JSON.stringify(head));
    network.dispose();
  }
});

test.serial('a head of another size, and one that the file lacks, start anew', async (t) => {
  for (const [name, task, head, fresh, width] of [
    ['vit', 'classification', { labels: 7 }, ['classifier'], 7],
    ['vit-bare', 'regression', {}, ['classifier'], 1],
    ['timm-vit', 'classification', { labels: 3 }, ['head'], 3],
  ] as [string, EncoderTask, HeadOptions, string[], number][]) {
    const { network, fresh: got } = await openEncoder(goldenEncoder(name), task, { head });
    t.deepEqual(got, fresh);
    const values = await scope(() => answer(network, pixelsOf(casesOf(name)[0] as Case)));
    t.is(values.length, 2 * width);
    network.dispose();
  }
});

test.serial('blocks recomputed in backward give the same gradients', async (t) => {
  manualSeed(3);
  const network = newVit(small, 'classification', { labels: 3 });
  const gradients = (checkpointing: boolean): Promise<number[][]> =>
    scope(async () => {
      const pixels = normal([2, 1, 8, 8], { seed: 5 });
      logitsCrossEntropy(network.forward({ pixels }, { training: true, checkpointing }), tensor(BigInt64Array.from([0n, 2n]))).backward();
      const found = await Promise.all(network.trainableParameters().map((x) => numbers(x.grad as Tensor)));
      for (const x of network.trainableParameters()) x.clearGrad();
      return found;
    });
  const [kept, recomputed] = [await gradients(false), await gradients(true)];
  t.deepEqual(kept, recomputed);
  t.true(kept.every((values) => values.some((value) => value !== 0)));
  network.dispose();
});

test.serial('resampling keeps a constant, and a grid of its own size as it is', (t) => {
  for (const how of ['linear', 'cubic', 'smooth'] as const)
    for (const [from, to] of [
      [4, 7],
      [7, 3],
      [5, 5],
    ] as const) {
      const weights = resampling(from, to, how);
      for (let row = 0; row < to; row++) {
        const sum = weights.subarray(row * from, (row + 1) * from).reduce((total, value) => total + value, 0);
        t.true(Math.abs(sum - 1) < 1e-6, `${how} ${from} to ${to}`);
        if (from === to) t.true(Math.abs((weights[row * from + row] ?? 0) - 1) < 1e-6);
      }
    }
});

test.serial('what does not fit is refused', async (t) => {
  const network = createEncoder(small, 'classification', { labels: 2 });
  const context = { training: false };
  scope(() => {
    t.throws(() => network.forward({ features: normal([1, 4, 4]) }, context), {
      instanceOf: InvalidArgumentError,
      message: /expected pixels/,
    });
    t.throws(() => network.forward({ pixels: normal([1, 3, 8, 8]) }, context), {
      instanceOf: ShapeError,
      message: /expected \[B, 1, H, W\]/,
    });
    t.throws(() => network.forward({ pixels: normal([1, 1, 3, 8]) }, context), { instanceOf: ShapeError, message: /smaller than a patch/ });
  });
  const refused = (config: object, message: RegExp, task: EncoderTask = 'classification'): void => {
    t.throws(() => createEncoder({ ...small, ...config }, task, { labels: 2 }), { instanceOf: ConfigError, message });
  };
  const { patch_size: _, ...unsized } = small;
  refused({ hidden_size: 15 }, /multiple/);
  refused({ hidden_act: 'softplus' }, /unknown "hidden_act"/);
  refused({ patch_size: 16 }, /smaller than a patch/);
  t.throws(() => createEncoder({ ...unsized, pach_size: 4 }, 'classification'), { message: /did you mean "patch_size"/ });
  refused({}, /no head for the task "masked-lm"/, 'masked-lm');
  t.throws(() => createEncoder({ architecture: 'vit_giant_patch14_224' }, 'classification'), { message: /unknown "architecture"/ });
  t.throws(() => createEncoder({ architecture: 'vit_tiny_patch16_224', model_args: { reg_tokens: 4 } }, 'classification'), {
    instanceOf: ConfigError,
    message: /"reg_tokens" 4 is not supported/,
  });
  await t.throwsAsync(openEncoder(goldenEncoder('timm-vit-average'), 'classification', { head: { labels: 0 } }), {
    instanceOf: ConfigError,
  });
  t.throws(() => createEncoder({ model_type: 'vitt' }, 'classification'), { message: /did you mean "vit"/ });
});

test.serial('sizes of timm by name', (t) => {
  const shapes = Object.fromEntries(
    ['tiny', 'small', 'base'].map((size) => {
      const network = createEncoder({ architecture: `vit_${size}_patch16_224.augreg`, num_classes: 10 }, 'classification');
      const parameters = [...network.namedModules()].flatMap(([, module]) => Object.values(module.parameterShapes()));
      return [size, parameters.reduce((total, shape) => total + shape.reduce((product, extent) => product * extent, 1), 0)];
    }),
  );
  // As timm counts them for ten classes.
  t.deepEqual(shapes, { tiny: 5526346, small: 21669514, base: 85806346 });
});

test.after.always('no tensor is left', (t) => {
  t.is(memory().tensors, 0);
});
