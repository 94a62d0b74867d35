// Full fine-tuning trains the tensors that a network holds itself, in no layer, as it does those of its layers.
import test from 'ava';
import { type AdapterSet, attach, type EncoderModel, loadAdapter, loadModel, noGrad, type Tensor } from 'lorikeet';
import { normal } from 'lorikeet/ops';
import { AdamW } from 'lorikeet/optim';
import { createEncoder } from '#dist/models/encoders.js';
import { relativeError, sameBits } from '../helpers/adapters.js';
import { temporaryFolder } from '../helpers/command-line.js';
import { goldenEncoder } from '../helpers/encoders.js';
import { numbers } from '../helpers/numbers.js';
import { perturb } from '../helpers/perturb.js';

const kRoot = ['cls_token', 'pos_embed'];
const open = (): Promise<EncoderModel<'classification'>> => loadModel(goldenEncoder('timm-vit'), { task: 'classification', dtype: 'f32' });
const pixels = normal([3, 3, 16, 16], { seed: 1 });
/** Of another size than published, for which positions are resampled. */
const larger = normal([3, 3, 24, 20], { seed: 2 });

const answer = async (model: Pick<EncoderModel, 'forward'>, images: Tensor, rows?: readonly string[][]): Promise<Float32Array> =>
  Float32Array.from(await numbers(noGrad(() => model.forward({ pixels: images }, { rows }))));

test.serial('class token and positions are trained, saved and loaded', async (t) => {
  const model = await open();
  const bare = await answer(model, pixels);
  const tuned = await attach(model, { type: 'full' });
  t.true(sameBits(await answer(tuned, pixels), bare));
  const parameters = new Map(tuned.namedParameters());
  t.deepEqual(
    [...parameters.keys()].filter((name) => !name.includes('.')),
    kRoot,
  );
  t.deepEqual([...parameters.keys()].sort(), [...model.network.namedParameters()].map(([name]) => name).sort());

  const before = await Promise.all(kRoot.map((name) => numbers(parameters.get(name) as Tensor)));
  const optimizer = new AdamW(tuned.parameters(), { learningRate: 1e-2 });
  tuned.loss({ pixels, targets: [0, 1, 2] }).backward();
  for (const name of kRoot)
    t.true(
      (await numbers(parameters.get(name)?.grad as Tensor)).some((value) => value !== 0),
      name,
    );
  optimizer.step();
  for (const [i, name] of kRoot.entries()) t.notDeepEqual(await numbers(parameters.get(name) as Tensor), before[i]);
  optimizer.dispose();

  const [trained, trainedLarger] = [await answer(tuned, pixels), await answer(tuned, larger)];
  const folder = temporaryFolder();
  await tuned.save(folder);
  const other = await open();
  const loaded = await loadAdapter(other, folder);
  t.true(sameBits(await answer(loaded, pixels), trained));
  t.true(sameBits(await answer(loaded, larger), trainedLarger));
  other.dispose();

  tuned.disable();
  t.true(sameBits(await answer(tuned, pixels), bare));
  tuned.enable();
  await tuned.merge();
  t.true(relativeError(await answer(model, pixels), trained) < 1e-6);
  t.true(relativeError(await answer(model, larger), trainedLarger) < 1e-6);
  await tuned.unmerge();
  t.true(sameBits(await answer(tuned, pixels), trained));
  tuned.dispose();
  t.true(sameBits(await answer(model, pixels), bare));
  model.dispose();
});

test.serial('rows of one pass have the tensors of their own adapters', async (t) => {
  const model = await open();
  const tuned = await attach(model, { type: 'full' }, { name: 'a' });
  await attach(model, { type: 'full' }, { name: 'b' });
  perturb({ parameters: () => tuned.parameters(['a']) });
  perturb({ parameters: () => tuned.parameters(['b']) }, 0.2);
  for (const images of [pixels, larger]) {
    const mixed = await answer(tuned, images, [['a'], [], ['b']]);
    const width = mixed.length / 3;
    for (const [row, names] of [['a'], [], ['b']].entries()) {
      tuned.activate(names);
      const alone = (await answer(tuned, images)).subarray(row * width, (row + 1) * width);
      t.true(relativeError(mixed.subarray(row * width, (row + 1) * width), alone) < 1e-5, `row ${row}`);
    }
  }
  model.dispose();
});

test.serial('a dot chooses them alone, and leaves them out', async (t) => {
  const model = await open();
  const paths = async (options: object): Promise<string[]> => {
    const tuned = await attach(model, { type: 'full', ...options });
    const found = [...tuned.namedParameters()].map(([name]) => name);
    tuned.dispose();
    return found;
  };
  t.deepEqual(await paths({ targets: ['.'], modulesToSave: [] }), kRoot);
  t.deepEqual(
    (await paths({ exclude: ['.'] })).filter((name) => !name.includes('.')),
    [],
  );
  t.deepEqual(
    (await paths({ targets: ['norm'], modulesToSave: [] })).filter((name) => !name.includes('.')),
    [],
  );
  model.dispose();
});

test.serial('the keyword transformer has its own trained too', async (t) => {
  const sizes = { embed_dim: 8, depth: 1, num_heads: 2, mlp_dim: 12, input_frames: 5, input_coeffs: 4, num_classes: 3 };
  const network = createEncoder({ architecture: 'kwt', ...sizes }, 'classification');
  for (const [, module] of network.namedModules())
    for (const [name, shape] of Object.entries(module.parameterShapes()))
      module.assign(name, normal(shape, { std: 0.3, seed: shape.length }));
  const features = normal([2, 5, 4], { seed: 3 });
  const run = async (): Promise<number[]> => numbers(noGrad(() => network.forward({ features }, { training: false })));
  const bare = await run();
  const set: AdapterSet = await attach(network, { type: 'full' });
  const own = new Map(set.namedParameters());
  for (const name of kRoot) {
    const kept = own.get(name) as Tensor;
    t.deepEqual(kept.shape, (network as unknown as Record<string, Tensor>)[name]?.shape);
  }
  t.deepEqual(await run(), bare);
  perturb(set);
  t.notDeepEqual(await run(), bare);
  set.dispose();
  t.deepEqual(await run(), bare);
  network.dispose();
});
