// MoSA: styles, forms and states of whole models. Its engine is checked in expert-values.test.ts, its loss in consistency.test.ts.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import {
  AdapterMismatchError,
  attach,
  consistencyLoss,
  loadAdapter,
  memory,
  restoreState,
  saveState,
  scope,
  type TunedModel,
} from 'lorikeet';
import { logitsCrossEntropy, mul, reshape, tensor } from 'lorikeet/ops';
import { AdamW } from 'lorikeet/optim';
import { mosa } from '#dist/adapters/mosa.js';
import { mosaDefaults } from '#dist/adapters/mosa-config.js';
import { readSafetensorsHeader } from '#dist/io/safetensors-files.js';
import { newVit } from '#dist/models/vit.js';
import { noGrad } from '#dist/scope.js';
import type { Tensor } from '#dist/tensor.js';
import { loadTiny, logitsOf, relativeError, sameBits, temporaryFolder, valuesOf } from '../helpers/adapters.js';
import {
  adaptVit,
  digitsVitConfig,
  disposeDigitsTasks,
  evaluateVit,
  freshHead,
  pretrainedVit,
  readDigitsTasks,
} from '../helpers/digits-vit.js';
import { dataFolder } from '../helpers/folders.js';
import { mosaConfig, mosaStyles } from '../helpers/mosa.js';
import { perturb } from '../helpers/perturb.js';
import { settledTensors } from '../helpers/settled-bytes.js';

const ids = [3, 17, 42, 5, 8, 80];
/** Hidden states of a pass in training. */
const inTraining = (tuned: Pick<TunedModel, 'forward'>): Promise<Float32Array> =>
  valuesOf(noGrad(() => tuned.forward([ids], { training: true })).detach());
const fileOf = (folder: string): string => join(folder, 'adapter_model.safetensors');
const optionsOf = (tuned: TunedModel): Record<string, unknown> => ({ ...tuned.adapters.get('default').config });
const shapesOf = (folder: string): [string, readonly number[]][] =>
  [...readSafetensorsHeader(fileOf(folder)).tensors].map(([name, { shape }]) => [name, shape]);

for (const style of mosaStyles) {
  test.serial(`${style}: every expert starts as the base, bit for bit, and in training they differ once learnt`, async (t) => {
    const model = await loadTiny();
    const base = await logitsOf(model, ids);
    const hidden = await inTraining(model);
    const tuned = await attach(model, mosaConfig(style, { dropout: 0 }));
    for (let draw = 0; draw < 8; draw++) t.true(sameBits(await inTraining(tuned), hidden), `draw ${draw}`);
    t.true(sameBits(await logitsOf(tuned, ids), base));
    perturb(tuned);
    const passes = await Promise.all(Array.from({ length: 6 }, () => inTraining(tuned)));
    t.true(new Set(passes.map((pass) => pass.join())).size > 4);
    const merged = await logitsOf(tuned, ids);
    t.true(sameBits(await logitsOf(tuned, ids), merged));
    tuned.adapters.setScale('default', 0);
    t.true(relativeError(await logitsOf(tuned, ids), base) === 0);
    tuned.dispose();
    model.dispose();
  });

  for (const [merge, more] of [
    ['mean', {}],
    ['joint', { biasMode: 'split' }],
    ['sum', { skipInactive: true }],
    ['mean', { skipInactive: true, share: 'down' }],
  ] as const) {
    test.serial(
      `${style}, merge ${merge} ${JSON.stringify(more)}: saved it is the plain adapter of the style, or goes on as trained`,
      async (t) => {
        const model = await loadTiny();
        const tuned = await attach(model, mosaConfig(style, { merge, dropout: 0, ...more }), { seed: 3 });
        perturb(tuned);
        const [plain, native] = ['plain', 'native'].map((name) => join(temporaryFolder(), name)) as [string, string];
        await tuned.save(plain);
        await tuned.save(native, { form: 'native' });
        const merged = await logitsOf(tuned, ids);
        const drawn = await inTraining(tuned);
        tuned.dispose();

        const deployed = await loadAdapter(model, plain);
        t.true(sameBits(await logitsOf(deployed, ids), merged));
        const { experts, rank } = optionsOf(deployed);
        t.deepEqual([experts, rank], style === 'lora' ? [undefined, 8] : [1, undefined]);
        deployed.dispose();
        const ordinary = await attach(model, mosaConfig(style, { experts: 1, dropout: 0 }));
        const folder = join(temporaryFolder(), 'ordinary');
        await ordinary.save(folder, { form: 'published' });
        t.deepEqual(shapesOf(plain), shapesOf(folder));
        ordinary.dispose();

        const again = await loadAdapter(model, native, { seed: 3 });
        t.is(optionsOf(again).experts, 4);
        t.true(sameBits(await logitsOf(again, ids), merged));
        t.true(sameBits(await inTraining(again), drawn));
        again.dispose();
        model.dispose();
      },
    );
  }
}

test.serial('low-rank branches fold into the weights, the others do not', async (t) => {
  const model = await loadTiny();
  const tuned = await attach(model, mosaConfig('lora'));
  perturb(tuned);
  const adapted = await logitsOf(tuned, ids);
  const { maxError } = await tuned.merge();
  t.true(maxError < 1e-5);
  t.true(relativeError(await logitsOf(tuned, ids), adapted) < 1e-5);
  await tuned.unmerge();
  t.true(sameBits(await logitsOf(tuned, ids), adapted));
  tuned.dispose();
  model.dispose();
});

test.serial('merged before any step, the first product is its start', async (t) => {
  const model = await loadTiny();
  const tensorsOf = async (experts: number): Promise<Map<string, Float32Array>> => {
    const tuned = await attach(model, mosaConfig('adaptformer', { experts }), { seed: 5 });
    const { config, placements } = tuned.adapters.get('default');
    const values = scope(() =>
      noGrad(
        () =>
          new Map(
            mosa
              .portable(config as typeof mosaDefaults, placements, 'published')
              .tensors.map(([name, x]) => [name, x.dataSync() as Float32Array]),
          ),
      ),
    );
    tuned.dispose();
    return values;
  };
  const [merged, plain] = [await tensorsOf(4), await tensorsOf(1)];
  t.deepEqual([...merged.keys()], [...plain.keys()]);
  for (const [name, values] of merged)
    t.true(Math.max(...values.map((value, i) => Math.abs(value - (plain.get(name)?.[i] as number)))) < 1e-7, name);
  model.dispose();
});

/** One step with the loss of two passes; hidden states stand for logits of a class a token. */
function step(tuned: TunedModel, optimizer: AdamW): Promise<number> {
  const classes = tensor(Int32Array.from(ids, (id) => id % 32));
  return scope(() => {
    const loss = consistencyLoss({ kl: 1, ce2: 0.5 })(() => {
      const logits = reshape(tuned.forward([ids], { training: true }), [ids.length, 32]);
      return { loss: logitsCrossEntropy(logits, classes, { reduction: 'sum' }), logits };
    });
    loss.backward();
    optimizer.step();
    optimizer.zeroGrad();
    return loss.item();
  });
}

for (const skipInactive of [false, true]) {
  test.serial(`a saved training goes on with the same experts and bits${skipInactive ? ', inactive ones skipped' : ''}`, async (t) => {
    const model = await loadTiny();
    const folder = join(temporaryFolder(), 'state');
    const config = mosaConfig('houlsby', { dropout: 0.2, skipInactive });
    const first = await attach(model, config, { seed: 1 });
    const optimizer = new AdamW(first.parameters(), { learningRate: 1e-2 });
    for (let i = 0; i < 4; i++) await step(first, optimizer);
    await saveState(folder, { model: first, optimizer }, { step: 4 });
    const straight = [await step(first, optimizer), await step(first, optimizer), await step(first, optimizer)];
    optimizer.dispose();
    first.dispose();
    const second = await attach(model, config, { seed: 1 });
    const again = new AdamW(second.parameters(), { learningRate: 1e-2 });
    t.deepEqual(await restoreState(folder, { model: second, optimizer: again }), { step: 4 });
    t.deepEqual([await step(second, again), await step(second, again), await step(second, again)], straight);
    again.dispose();
    second.dispose();
    model.dispose();
  });
}

test.serial('recomputed in backward, a pass has the experts of its forward', async (t) => {
  const model = await loadTiny();
  const gradients = async (checkpointing: boolean): Promise<Float32Array[]> => {
    const tuned = await attach(model, mosaConfig('adaptformer', { dropout: 0.2 }), { seed: 2 });
    perturb(tuned);
    scope(() => tuned.loss({ ids: [ids], training: true, checkpointing }).backward());
    const found = tuned.parameters().map((value) => Float32Array.from((value.grad as Tensor).dataSync() as Float32Array));
    tuned.dispose();
    return found;
  };
  const [kept, recomputed] = [await gradients(false), await gradients(true)];
  t.true(kept.some((values) => values.some((value) => value !== 0)));
  for (const [i, values] of kept.entries()) t.true(relativeError([...(recomputed[i] as Float32Array), 0, 1], [...values, 0, 1]) < 1e-6);
  model.dispose();
});

test.serial('an owner map of another size is refused', async (t) => {
  const model = await loadTiny();
  const tuned = await attach(model, mosaConfig('adaptformer'));
  const folder = join(temporaryFolder(), 'native');
  await tuned.save(folder, { form: 'native' });
  tuned.dispose();
  const file = join(folder, 'adapter_config.json');
  writeFileSync(file, readFileSync(file, 'utf8').replace('"bottleneck_size": 8', '"bottleneck_size": 6'));
  await t.throwsAsync(loadAdapter(model, folder), { instanceOf: AdapterMismatchError });
  const { tuned: partly, report } = await loadAdapter(model, folder, { strict: false });
  for (const name of ['down', 'up'] as const)
    t.true(report.mismatched.some(({ key }) => key.endsWith(`.adapter_mlp.${name}.weight.owner`)));
  partly.dispose();
  model.dispose();
});

test('options that cannot work are errors that say why', async (t) => {
  const fails = (more: object, message: RegExp): void => {
    t.throws(() => mosa.check({ ...mosaDefaults, ...more } as typeof mosaDefaults), { code: 'config', message });
  };
  fails({ experts: 0 }, /experts cannot be used; got 0, expected a whole number from 1 to 255/);
  fails({ experts: 256 }, /got 256/);
  fails({ experts: 2.5 }, /got 2.5/);
  fails({ style: 'ladder' }, /style cannot be used; got "ladder", expected "adaptformer", "pfeiffer", "houlsby", "swin", "lora"/);
  fails({ share: 'left' }, /share cannot be used; got "left"/);
  fails({ share: 'both' }, /nothing to split; got share "both"/);
  fails({ share: ['down', 'up'] }, /nothing to split/);
  fails({ merge: 'add' }, /merge cannot be used; got "add", expected "mean", "joint", "sum"/);
  fails({ biasMode: 'none' }, /biasMode/);
  fails({ bottleneckSize: 0 }, /bottleneckSize/);
  fails({ scale: Number.NaN }, /scale/);
  fails({ scale: 'trained' }, /scale cannot be used; got "trained", expected a number, "learned" or null/);
  fails({ scale: 'learned', style: 'lora' }, /expected a number or null with style "lora"/);
  fails({ dropout: 1 }, /dropout/);
  fails({ skipInactive: 1 }, /skipInactive/);
  fails({ consistency: { deep: -0.01 } }, /consistency\.deep/);
  fails({ consistency: 'kl' }, /expected \{ kl, ce2, deep \} or null/);
  fails({ consistency: { kl: -1 } }, /consistency\.kl/);
  fails({ consistency: { ce: 1 } }, /no other keys/);
  t.notThrows(() => mosa.check({ ...mosaDefaults, consistency: { kl: 0.5, ce2: 1, deep: 0.01 } }));

  const model = await loadTiny();
  const tensors = await settledTensors();
  await t.throwsAsync(attach(model, mosaConfig('adaptformer', { experts: 9, biasMode: 'split', share: 'up' })), {
    code: 'config',
    message: /mosa: "model\.layers\.0\.adapter_mlp\.down\.bias" cannot be split; got 8 entries for 9 experts/,
  });
  t.is(memory().tensors, tensors);
  await t.throwsAsync(attach(model, { type: 'mosa', targets: ['q_proj'] }), { code: 'config', message: /mosa: .* is not a block/ });
  await t.throwsAsync(attach(model, { type: 'mosa', style: 'lora', targets: { roles: ['block'] } }), {
    code: 'config',
    message: /expected a linear layer/,
  });
  model.dispose();
});

test('a second pass is asked for where the config weighs one', (t) => {
  const lossOf = (consistency: (typeof mosaDefaults)['consistency']): unknown => mosa.trainingLoss({ ...mosaDefaults, consistency });
  t.is(typeof lossOf({}), 'function');
  t.is(typeof lossOf({ kl: 0, ce2: 1 }), 'function');
  t.is(typeof lossOf({ kl: 0, deep: 1 }), 'function');
  t.is(lossOf(null), undefined);
  t.is(lossOf({ kl: 0 }), undefined);
});

test.serial('fewer than six blocks are all compared, and that is said', async (t) => {
  const model = await loadTiny();
  const warnings: string[] = [];
  const listen = (warning: Error): void => void warnings.push(warning.message);
  process.on('warning', listen);
  const tuned = await attach(model, mosaConfig('adaptformer', { consistency: { deep: 0.01 } }));
  await new Promise((resolve) => setImmediate(resolve));
  process.off('warning', listen);
  t.deepEqual(warnings, ['mosa: consistency.deep compares the first 6 blocks; got a network of 2, which are all compared']);
  tuned.dispose();
  model.dispose();
});

test.serial('the published size: AdaptFormer with 64 on ViT-B/16', async (t) => {
  // One block of twelve; its MLP does not matter.
  const network = newVit(
    { ...digitsVitConfig, hidden_size: 768, num_hidden_layers: 1, num_attention_heads: 12, intermediate_size: 8 },
    'classification',
    { labels: 2 },
  );
  const set = await attach(network, { type: 'mosa' });
  const { config, placements } = set.get('default');
  const count = scope(() =>
    noGrad(() =>
      mosa.portable(config as typeof mosaDefaults, placements, 'published').tensors.reduce((sum, [, { size }]) => sum + size, 0),
    ),
  );
  t.is(12 * count, 1_208_064);
  set.dispose();
  network.dispose();
});

test.serial('a ViT learns digits with the loss of two passes', async (t) => {
  const folder = dataFolder(t, 'digits');
  if (folder === undefined) return;
  const tasks = readDigitsTasks(folder, 1);
  const network = pretrainedVit(1, tasks.old, { steps: 300 });
  const set = await attach(network, { type: 'mosa', bottleneckSize: 16, scale: 1 }, { seed: 1 });
  const head = freshHead(network, 1);
  const losses = adaptVit(network, tasks.few, {
    parameters: [...set.parameters(), ...head.trainableParameters()],
    steps: 80,
    seed: 1,
    loss: (pixels, labels) =>
      mul(
        consistencyLoss({ kl: 1, deep: 0.01 })((hidden) => {
          const logits = network.forward({ pixels }, { training: true, ...(hidden && { hidden }) });
          return { loss: logitsCrossEntropy(logits, labels, { reduction: 'sum' }), logits };
        }),
        1 / labels.size,
      ),
  });
  const mean = (part: readonly number[]): number => part.reduce((sum, loss) => sum + loss, 0) / part.length;
  t.log('loss', mean(losses.slice(0, 5)), mean(losses.slice(-5)));
  t.true(mean(losses.slice(-5)) < 0.8 * mean(losses.slice(0, 5)));
  t.true(evaluateVit(network, tasks.few).accuracy > 0.4);
  set.dispose();
  network.dispose();
  disposeDigitsTasks(tasks);
});
