import { join } from 'node:path';
import test from 'ava';
import { ConfigError, loadAdapter } from 'lorikeet';
import { loadSafetensors, type PortableAdapter, readAdapter, writeAdapter } from 'lorikeet/io';
import { cast, matmul, mul, reshape } from 'lorikeet/ops';
import { noGrad, scope } from '#dist/scope.js';
import { golden, loadTiny, readReference, referenceError, relativeError } from '../helpers/adapters.js';
import { temporaryFolder } from '../helpers/command-line.js';
import { readJson } from '../helpers/folders.js';

const folder = temporaryFolder();
const files = join(golden, 'dialects');

for (const name of ['linear', 'embedding-tied']) {
  test.serial(`an adapter that mlx-lm wrote gives mlx-lm's logits: ${name}`, async (t) => {
    const reference = readReference(join(files, `mlx-${name}`, 'reference.json'));
    const config = readJson<Record<string, unknown>>(golden, reference.base, 'config.json');
    const adapter = await readAdapter(join(files, `mlx-${name}`), { config });
    const out = join(folder, name);
    await writeAdapter(adapter, 'peft', out);
    adapter.dispose();
    const model = await loadTiny(reference.base);
    const tuned = await loadAdapter(model, out);
    t.true((await referenceError(tuned, reference)) < 1e-5);
    model.dispose();
  });
}

test('an embedding of mlx-lm needs the base model, which tells whether the head is tied to it', async (t) => {
  await t.throwsAsync(readAdapter(join(files, 'mlx-embedding-tied')), { instanceOf: ConfigError, message: /the base model tells/ });
});

/** scale * B A of every pair, convolutions with their kernel flattened; compared with what diffusers' networks have. */
async function worstDelta({ pairs }: PortableAdapter): Promise<number> {
  const expected = await loadSafetensors(join(files, 'diffusion/deltas.safetensors'));
  if (pairs.size !== expected.size) return Number.POSITIVE_INFINITY;
  let worst = 0;
  for (const [path, { a, b, scale }] of pairs) {
    const delta = await scope(() =>
      noGrad(() => {
        const [left, right] = [b, a].map((x) => cast(reshape(x, [x.shape[0] ?? 0, x.size / (x.shape[0] ?? 1)]), 'f32'));
        return left && right && mul(matmul(left, right), scale).data();
      }),
    );
    const wanted = (await expected.get(path)?.data()) as Float32Array | undefined;
    worst = Math.max(worst, wanted === undefined ? Number.POSITIVE_INFINITY : relativeError(delta as Float32Array, wanted));
  }
  for (const tensor of expected.values()) tensor.dispose();
  return worst;
}

for (const name of ['kohya.safetensors', 'peft-names', 'older-names']) {
  test.serial(`UNet and text encoder in one file: ${name}, and through the other formats`, async (t) => {
    const adapter = await readAdapter(join(files, 'diffusion', name));
    t.is(adapter.dialect, name.startsWith('kohya') ? 'kohya' : 'diffusers');
    t.deepEqual(adapter.components, ['text_encoder', 'unet']);
    t.true((await worstDelta(adapter)) < 1e-6);
    for (const dialect of ['kohya', 'diffusers'] as const) {
      const out = join(folder, `${name}-${dialect}.safetensors`);
      await writeAdapter(adapter, dialect, out);
      const again = await readAdapter(out);
      // The scale 3 / 2 is rounded into the halves of B where the format has no other place.
      t.true((await worstDelta(again)) < (dialect === 'kohya' ? 1e-6 : 1e-3));
      again.dispose();
    }
    await t.throwsAsync(writeAdapter(adapter, 'peft', join(folder, 'one')), {
      instanceOf: ConfigError,
      message: 'convert: peft holds the adapter of one network; got text_encoder and unet, expected kohya or safetensors as the format',
    });
    await t.throwsAsync(writeAdapter(adapter, 'mlx', join(folder, 'one')), {
      instanceOf: ConfigError,
      message: /mlx holds the adapter of one/,
    });
    adapter.dispose();
  });
}
