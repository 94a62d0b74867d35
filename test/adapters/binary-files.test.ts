import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { AdapterError, adapterGroups, attach, ConfigError, loadBinaryAdapter, loadModel, saveBinaryAdapter } from 'lorikeet';
import { normal } from 'lorikeet/ops';
import { readSafetensorsHeader } from '#dist/io/safetensors-files.js';
import { newVit, type VitNetwork } from '#dist/models/vit.js';
import { RandomScope } from '#dist/random.js';
import { noGrad, scope } from '#dist/scope.js';
import { temporaryFolder } from '../helpers/adapters.js';
import { digitsVitConfig } from '../helpers/digits-vit.js';
import { goldenEncoder } from '../helpers/encoders.js';
import { dataFolder } from '../helpers/folders.js';
import { numbers } from '../helpers/numbers.js';
import { perturb } from '../helpers/perturb.js';

/** A frozen transformer with random weights. */
function vit(labels: number, config: object = {}): VitNetwork {
  const network = new RandomScope(1).within(() => newVit({ ...digitsVitConfig, ...config }, 'classification', { labels }));
  network.freeze();
  return network;
}

const logits = (network: VitNetwork): Promise<number[]> =>
  scope(async () => {
    const side = 8;
    const pixels = normal([2, 1, side, side], { seed: 3 });
    return numbers(noGrad(() => network.forward({ pixels }, { training: false })));
  });

for (const adapter of ['adaptformer', 'lora'] as const) {
  for (const bihead of [false, true]) {
    test(`${adapter}${bihead ? '-bihead' : ''}: trained, written and read it computes the same, and comes back to the same bytes`, async (t) => {
      const network = vit(5);
      const base = await logits(network);
      const head = bihead ? { bihead } : { modulesToSave: ['classifier'] };
      const set = await attach(network, { type: 'binary', adapter, bits: 2, dim: 8, scale: 10, ...head });
      perturb(set);
      const adapted = await logits(network);
      t.notDeepEqual(adapted, base);
      const file = join(temporaryFolder(), 'own.bin');
      await saveBinaryAdapter(set, file, { dataset: 'digits' });
      set.dispose();
      t.deepEqual(await logits(network), base);
      const loaded = await loadBinaryAdapter(network, file);
      t.deepEqual(await logits(network), adapted);
      t.is(loaded.parameters().length, bihead ? 0 : 2);
      const again = join(temporaryFolder(), 'again.bin');
      await saveBinaryAdapter(loaded, again, { dataset: 'digits' });
      t.is(Buffer.compare(readFileSync(again), readFileSync(file)), 0);
      t.is(readFileSync(again.replace('.bin', '.yaml'), 'utf8'), readFileSync(file.replace('.bin', '.yaml'), 'utf8'));
      loaded.dispose();
      network.dispose();
    });
  }
}

test('published files go onto a transformer of their size and come back to the same bytes', async (t) => {
  const published = dataFolder(t, 'published-adapters/binary-adapter');
  if (published === undefined) return;
  const network = vit(10, { hidden_size: 768, num_hidden_layers: 12, num_attention_heads: 12, intermediate_size: 8 });
  const base = await logits(network);
  for (const method of ['adaptformer', 'adaptformer-bihead', 'lora', 'lora-bihead']) {
    const file = join(published, method, 'svhn-bit1-dim1.bin');
    const set = await loadBinaryAdapter(network, file);
    t.notDeepEqual(await logits(network), base);
    const copy = join(temporaryFolder(), 'copy.bin');
    await saveBinaryAdapter(set, copy, { dataset: 'svhn' });
    t.is(Buffer.compare(readFileSync(copy), readFileSync(file)), 0, method);
    set.dispose();
  }
  network.dispose();
});

test('what such files cannot hold is refused, and the network stays as it was', async (t) => {
  const network = vit(5);
  const base = await logits(network);
  const file = join(temporaryFolder(), 'own.bin');
  const saved = async (config: object): Promise<void> => {
    const set = await attach(network, { type: 'binary', ...config });
    try {
      await saveBinaryAdapter(set, file);
    } finally {
      set.dispose();
    }
  };
  await t.throwsAsync(saved({ bits: 32, bihead: true }), { instanceOf: ConfigError, message: /32 bits/ });
  await t.throwsAsync(saved({}), {
    instanceOf: ConfigError,
    message: /a head with bias; expected bihead, or modulesToSave \["classifier"\]/,
  });
  const refused = { instanceOf: ConfigError };
  const lora4 = { adapter: 'lora', bihead: true, dim: 8 };
  await t.throwsAsync(saved({ ...lora4, targets: ['query', 'key'] }), {
    ...refused,
    message: /query and value of every block alone; got nothing on ".*\.value"/,
  });
  await t.throwsAsync(saved({ ...lora4, targets: ['query', 'key', 'value'] }), { ...refused, message: /got ".*\.key" beside them/ });
  await t.throwsAsync(saved({ bihead: true, exclude: '.*\\.1' }), { ...refused, message: /and every block alone; got nothing on ".*\.1"/ });
  await t.throwsAsync(saved({ modulesToSave: ['classifier', 'layernorm'] }), { ...refused, message: /got ".*layernorm" beside them/ });
  t.false(existsSync(file));
  await saved({ bihead: true });
  const other = vit(4);
  await t.throwsAsync(loadBinaryAdapter(other, file), { instanceOf: AdapterError, message: /has 5 classes; the head "classifier" has 4/ });
  const smaller = vit(5, { num_hidden_layers: 2 });
  await t.throwsAsync(loadBinaryAdapter(smaller, file), { message: /bytes after the end/ });
  t.deepEqual(await logits(network), base);
  const lora = await attach(network, { type: 'lora' });
  await t.throwsAsync(saveBinaryAdapter(lora, file), { instanceOf: AdapterError, message: /of method "lora"; expected "binary"/ });
  for (const each of [network, other, smaller]) each.dispose();
});

test('a model takes a head of one bit in place of its own, and the files of its authors', async (t) => {
  const model = await loadModel(goldenEncoder('vit'), { task: 'classification', dtype: 'f32' });
  const tuned = await attach(model, { type: 'binary', bits: 1, dim: 8, bihead: true });
  const names = [...tuned.namedParameters()].map(([name]) => name);
  t.deepEqual(
    names.filter((name) => name.startsWith('classifier')),
    ['classifier.adapter_head.weight'],
  );
  t.is(adapterGroups(tuned, { learningRate: 1e-3 })[0]?.parameters.length, names.length);
  perturb(tuned);
  const answers = (): Promise<number[]> => {
    const pixels = normal([2, ...(model.network.shape.example ?? [])], { seed: 3 });
    return numbers(noGrad(() => model.network.forward({ pixels }, { training: false })));
  };
  const adapted = await answers();
  const file = join(temporaryFolder(), 'own.bin');
  await saveBinaryAdapter(tuned, file);
  tuned.dispose();
  t.notDeepEqual(await answers(), adapted);
  const loaded = await loadBinaryAdapter(model, file);
  t.deepEqual(await answers(), adapted);
  const beside = await attach(model, { type: 'binary', bits: 1, dim: 8 }, { name: 'beside' });
  t.is(beside.adapters, loaded);
  // The head is no code: it gets the dtype that is asked for.
  const folder = join(temporaryFolder(), 'folder');
  await beside.save(folder, { dtype: 'bf16' });
  for (const [name, { dtype }] of readSafetensorsHeader(join(folder, 'adapter_model.safetensors')).tensors)
    t.is(dtype, name.endsWith('.qweight') ? 'U8' : name.endsWith('.qmeta') ? 'F32' : 'BF16', name);
  model.dispose();
});
