import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import {
  CancelledError,
  ConfigError,
  FormatError,
  HubError,
  InvalidArgumentError,
  type LoadModelProgress,
  loadModel,
  memory,
  NonFiniteError,
  ShapeError,
  scope,
} from 'lorikeet';
import { goldenModel, readJson } from '../helpers/folders.js';
import { numbers } from '../helpers/numbers.js';

const source = goldenModel('llama-gqa-tied');

/** A copy of a tiny model whose weights were edited: `change` gets the header and the bytes of all tensors. */
async function edited(
  t: ExecutionContext,
  change: (header: Record<string, { dtype: string; shape: number[]; data_offsets: number[] }>, data: DataView) => void,
): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'lorikeet-'));
  t.teardown(() => rm(folder, { recursive: true }));
  await cp(source, folder, { recursive: true });
  const { readFile } = await import('node:fs/promises');
  const file = await readFile(join(source, 'model.safetensors'));
  const length = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.subarray(8, 8 + length).toString());
  const data = Buffer.from(file.subarray(8 + length));
  change(header, new DataView(data.buffer, data.byteOffset, data.byteLength));
  const text = Buffer.from(JSON.stringify(header));
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(text.length));
  await writeFile(join(folder, 'model.safetensors'), Buffer.concat([size, text, data]));
  return folder;
}

const down = 'model.layers.1.mlp.down_proj.weight';

test.serial('missing, unexpected and misshapen weights are listed in one error', async (t) => {
  const folder = await edited(t, (header) => {
    const weight = header[down];
    const norm = header['model.norm.weight'];
    if (weight === undefined || norm === undefined) return t.fail();
    header['model.layers.2.mlp.down_proj.weight'] = weight;
    delete header[down];
    header['model.norm.weight'] = { ...norm, shape: [4, 8] };
  });
  await t.throwsAsync(loadModel(folder), {
    instanceOf: FormatError,
    message:
      /the weights do not fit the config; 1 missing: model\.layers\.1\.mlp\.down_proj\.weight; 1 unexpected: model\.layers\.2\.mlp\.down_proj\.weight; 1 of another shape: "model\.norm\.weight" got \[4, 8\], expected \[32\]/,
  });
});

test.serial('rotary buffers of old files and a second copy of a tied head are let pass', async (t) => {
  const folder = await edited(t, (header) => {
    header['model.layers.0.self_attn.rotary_emb.inv_freq'] = { dtype: 'F32', shape: [0], data_offsets: [0, 0] };
  });
  const model = await loadModel(folder);
  t.is((await scope(() => numbers(model.logits([[1, 2]])))).length, 2 * 97);
  model.dispose();
  const untied = goldenModel('llama-old-style');
  const both = await mkdtemp(join(tmpdir(), 'lorikeet-'));
  t.teardown(() => rm(both, { recursive: true }));
  await cp(untied, both, { recursive: true });
  await writeFile(join(both, 'config.json'), JSON.stringify({ ...readJson<object>(untied, 'config.json'), tie_word_embeddings: true }));
  const tied = await loadModel(both);
  t.false([...tied.network.namedParameters()].some(([name]) => name === 'lm_head.weight'));
  tied.dispose();
});

test.serial('NaN and infinite weights are an error that names the tensor', async (t) => {
  for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
    const folder = await edited(t, (header, data) => {
      const [start = 0] = header[down]?.data_offsets ?? [];
      data.setFloat32(start + 40, bad, true);
    });
    await t.throwsAsync(loadModel(folder), {
      instanceOf: NonFiniteError,
      message: new RegExp(`weight "${down}" has NaN or infinite values`),
    });
  }
});

test.serial('progress ends at the total, and a signal cancels', async (t) => {
  const seen: LoadModelProgress[] = [];
  const model = await loadModel(source, { onProgress: (progress) => seen.push(progress) });
  t.true(seen.length > 10);
  const last = seen.at(-1);
  t.true(last?.stage === 'load' && last.loaded === last.total);
  model.dispose();
  await t.throwsAsync(loadModel(source, { signal: AbortSignal.abort() }), { instanceOf: CancelledError });
  const controller = new AbortController();
  await t.throwsAsync(loadModel(source, { signal: controller.signal, onProgress: () => controller.abort() }), {
    instanceOf: CancelledError,
  });
});

test.serial('bad paths, configs and dtypes', async (t) => {
  await t.throwsAsync(loadModel(join(source, 'nowhere/at/all')), { message: /nowhere/ });
  process.env.HF_HUB_OFFLINE = '1';
  await t.throwsAsync(loadModel('nobody/no-such-model'), { instanceOf: HubError, message: /"nobody\/no-such-model" is not in the cache/ });
  await t.throwsAsync(loadModel(source, { dtype: 'f33' as 'f32' }), { instanceOf: ConfigError, message: /f33/ });
  const folder = await edited(t, () => {});
  await writeFile(join(folder, 'config.json'), JSON.stringify({ ...readJson<object>(source, 'config.json'), hidden_size: undefined }));
  await t.throwsAsync(loadModel(folder), { instanceOf: ConfigError, message: /key "hidden_size" is missing/ });
});

test.serial('bad ids', async (t) => {
  using model = await loadModel(source);
  t.throws(() => model.logits([]), { instanceOf: InvalidArgumentError, message: /the batch is empty/ });
  t.throws(() => model.logits([[]]), { instanceOf: InvalidArgumentError, message: /row 0 has no tokens/ });
  t.throws(() => model.logits([[1, 97]]), {
    instanceOf: InvalidArgumentError,
    message: /token 1 of row 0 is not in the vocabulary; got 97, expected an integer from 0 to 96/,
  });
  t.throws(() => model.logits([[1.5]]), { instanceOf: InvalidArgumentError });
  t.throws(() => model.logits([[1, 2], [3]]), { instanceOf: ShapeError, message: /rows must have equal lengths/ });
  t.throws(() => model.logits([new Array(65).fill(1)]), {
    instanceOf: InvalidArgumentError,
    message: /row 0 is longer than the context; got 65 tokens, expected at most 64/,
  });
  t.throws(() => model.loss({ ids: [[1, 2]], targets: [[97, 1]] }), { instanceOf: InvalidArgumentError, message: /target 0 of row 0/ });
  t.throws(() => model.loss({ ids: [[1]] }), { instanceOf: InvalidArgumentError, message: /no target/ });
  t.throws(() => model.tokenizer, { instanceOf: ConfigError, message: /tokenizer/ });
});

test.serial('a disposed model says so, and nothing is left', async (t) => {
  const model = await loadModel(source);
  model.dispose();
  t.throws(() => model.logits([[1]]), { message: /was disposed/ });
  t.is(memory().tensors, 0);
});
