import { join } from 'node:path';
import test from 'ava';
import { ConfigError, disposeTensors, FormatError, memory } from 'lorikeet';
import { ggufWeights, identifyModel, parseGguf, readGgufModel } from 'lorikeet/io';
import { dataFolder, goldenFolder, readJson } from '../helpers/folders.js';
import { type Field, ggufBytes, source } from '../helpers/gguf-bytes.js';

test.after((t) => t.is(memory().tensors, 0));

const array = (type: number, values: readonly Field[]): Field => ({ type: 9, of: type, values });

test('metadata of every type, tensors in row order, and the alignment', (t) => {
  const pairs: [string, Field][] = [
    ['u8', { type: 0, value: 200 }],
    ['i8', { type: 1, value: -3 }],
    ['u16', { type: 2, value: 60000 }],
    ['i16', { type: 3, value: -9 }],
    ['u32', { type: 4, value: 4e9 }],
    ['i32', { type: 5, value: -7 }],
    ['f32', { type: 6, value: 0.5 }],
    ['yes', { type: 7, value: 1 }],
    ['text', { type: 8, value: 'naïve ключ' }],
    ['u64', { type: 10, value: 2n ** 63n }],
    ['i64', { type: 11, value: -5n }],
    ['f64', { type: 12, value: 0.1 }],
    [
      'list',
      array(8, [
        { type: 8, value: 'a' },
        { type: 8, value: '' },
      ]),
    ],
    ['nested', array(9, [array(4, [{ type: 4, value: 1 }])])],
    ['general.alignment', { type: 4, value: 64 }],
  ];
  const bytes = ggufBytes({
    pairs,
    tensors: [
      { name: 'w', dims: [3, 2], type: 0, data: new Uint8Array(24) },
      { name: 'scalar', dims: [], type: 0, data: new Uint8Array(4) },
    ],
    alignment: 64,
  });
  const header = parseGguf(source(bytes));
  t.deepEqual(Object.fromEntries(header.metadata), {
    u8: 200,
    i8: -3,
    u16: 60000,
    i16: -9,
    u32: 4e9,
    i32: -7,
    f32: 0.5,
    yes: true,
    text: 'naïve ключ',
    u64: 2n ** 63n,
    i64: -5,
    f64: 0.1,
    list: ['a', ''],
    nested: [[1]],
    'general.alignment': 64,
  });
  t.deepEqual(header.tensors.get('w')?.shape, [2, 3]);
  t.is((header.tensors.get('w')?.start ?? 1) % 64, 0);
  t.is(header.tensors.get('scalar')?.bytes, 4);
});

const tensor = { name: 'w', dims: [32], type: 0, data: new Uint8Array(128) };
const broken: readonly [what: string, bytes: () => Uint8Array, message: RegExp][] = [
  ['another magic', () => new Uint8Array(64), /is not a GGUF file/],
  ['a short file', () => new Uint8Array(10), /too short for a GGUF file; got 10 bytes/],
  ['an old version', () => ggufBytes({ version: 1 }), /unknown GGUF version; got 1, expected 2 or 3/],
  ['the other byte order', () => ggufBytes({ version: 3 << 24 }), /big-endian/],
  ['a lying tensor count', () => ggufBytes({ tensorCount: 2n ** 60n }), /number of tensors is too large/],
  ['a lying pair count', () => ggufBytes({ pairCount: 5n }), /does not fit the file|too large/],
  [
    'a lying text length',
    () => ggufBytes({ pairs: [['k', { type: 8, value: 'x', length: 2n ** 62n }]] }),
    /metadata "k" is too large; got \d+, expected at most 16777216/,
  ],
  ['a text beyond the end', () => ggufBytes({ pairs: [['k', { type: 8, value: 'x', length: 9999n }]] }), /does not fit the file/],
  [
    'a lying list length',
    () => ggufBytes({ pairs: [['k', { type: 9, of: 4, values: [], length: 1_000_000n }]] }),
    /metadata "k" does not fit the file; got 1000000 elements/,
  ],
  ['an unknown value type', () => ggufBytes({ pairs: [['k', { type: 13, value: 0 }]] }), /metadata "k" has an unknown type; got 13/],
  [
    'a repeated key',
    () =>
      ggufBytes({
        pairs: [
          ['k', { type: 0, value: 1 }],
          ['k', { type: 0, value: 1 }],
        ],
      }),
    /metadata key "k" is repeated/,
  ],
  ['a repeated tensor', () => ggufBytes({ tensors: [tensor, tensor] }), /tensor "w" is repeated/],
  ['too many dimensions', () => ggufBytes({ tensors: [{ ...tensor, dims: [1, 1, 1, 1, 32] }] }), /too many dimensions; got 5/],
  ['an unknown tensor type', () => ggufBytes({ tensors: [{ ...tensor, type: 77 }] }), /unknown type; got 77/],
  [
    'a row of half a block',
    () => ggufBytes({ tensors: [{ ...tensor, dims: [16], type: 2 }] }),
    /no whole number of Q4_0 blocks; got 16 values/,
  ],
  ['a size beyond counting', () => ggufBytes({ tensors: [{ ...tensor, dims: [2 ** 40, 2 ** 40] }] }), /too large/],
  ['an offset beyond the end', () => ggufBytes({ tensors: [{ ...tensor, offset: 2n ** 40n }] }), /does not fit the file/],
  ['an offset beyond counting', () => ggufBytes({ tensors: [{ ...tensor, offset: 2n ** 63n }] }), /offset of tensor "w" is too large/],
  ['an offset that is not aligned', () => ggufBytes({ tensors: [{ ...tensor, offset: 4n }] }), /not aligned; got offset 4/],
  ['an overlap', () => ggufBytes({ tensors: [tensor, { ...tensor, name: 'v', offset: 32n }] }), /tensors "w" and "v" overlap/],
  ['a strange alignment', () => ggufBytes({ pairs: [['general.alignment', { type: 4, value: 24 }]] }), /must be a power of two/],
  ['a cut-off file', () => ggufBytes({ tensors: [tensor] }).subarray(0, -1), /does not fit the file, or the file is cut off/],
];

for (const [what, bytes, message] of broken) {
  test(`refused: ${what}`, (t) => {
    const error = t.throws(() => parseGguf(source(bytes())), { instanceOf: FormatError });
    t.regex(error.message, /^x\.gguf: /);
    t.regex(error.message, message);
  });
}

test('the tiny llama: config, types, and rows of q and k in the order of the checkpoint', async (t) => {
  const { config, header, tensors } = readGgufModel(join(goldenFolder, 'gguf', 'tiny-llama.gguf'));
  t.like(config, {
    model_type: 'llama',
    hidden_size: 32,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    head_dim: 8,
    vocab_size: 330,
    tie_word_embeddings: true,
    attention_bias: false,
    rms_norm_eps: 1e-5,
    bos_token_id: 1,
    eos_token_id: 2,
  });
  const weights = ggufWeights(header, tensors);
  t.deepEqual(weights.entries.get('model.layers.0.self_attn.q_proj.weight'), { shape: [32, 32], stored: 'Q4_0' });
  t.is(weights.entries.get('model.layers.1.mlp.down_proj.weight')?.stored, 'Q4_K');
  const q = weights.load('model.layers.0.self_attn.q_proj.weight');
  const stored = ggufWeights(
    header,
    new Map([['q', { ...(tensors.get('model.layers.0.self_attn.q_proj.weight') ?? t.fail()), interleavedHeads: 0 } as never]]),
  ).load('q');
  const [ordered, raw] = [await q.data(), await stored.data()];
  for (let row = 0; row < 32; row++) {
    const inHead = row % 8;
    const target = row - inHead + (inHead % 2) * 4 + Math.floor(inHead / 2);
    t.deepEqual(ordered.slice(target * 32, target * 32 + 32), raw.slice(row * 32, row * 32 + 32));
  }
  t.throws(() => weights.load('model.layers.0.self_attn.q_proj.weigth'), {
    instanceOf: FormatError,
    message: /is missing; did you mean "model\.layers\.0\.self_attn\.q_proj\.weight"/,
  });
  disposeTensors([q, stored]);
});

test('the tiny qwen2: its own head, biases, and rows as they are', (t) => {
  const { config, tensors } = readGgufModel(join(goldenFolder, 'gguf', 'tiny-qwen2.gguf'));
  t.like(config, { model_type: 'qwen2', tie_word_embeddings: false, attention_bias: true });
  t.true(tensors.has('lm_head.weight'));
  t.is(tensors.get('model.layers.0.self_attn.q_proj.bias')?.interleavedHeads, 0);
});

interface Blocks {
  readonly [type: string]: { readonly valuesPerBlock: number; readonly bytes: string; readonly values: readonly number[] };
}

test('blocks of every type have the values of the format, bit for bit', async (t) => {
  const { mkdtempSync, rmSync, writeFileSync } = await import('node:fs');
  const { tmpdir } = await import('node:os');
  const ids: Record<string, number> = { F16: 1, BF16: 30, Q4_0: 2, Q4_1: 3, Q5_0: 6, Q5_1: 7, Q8_0: 8, Q4_K: 12, Q5_K: 13, Q6_K: 14 };
  const golden = readJson<Blocks>(goldenFolder, 'gguf', 'blocks.json');
  t.deepEqual(Object.keys(golden).sort(), Object.keys(ids).sort());
  const folder = mkdtempSync(join(tmpdir(), 'lorikeet-gguf-'));
  const path = join(folder, 'x.gguf');
  writeFileSync(
    path,
    ggufBytes({
      tensors: Object.entries(golden).map(([name, { bytes, values }]) => ({
        name,
        dims: [values.length],
        type: ids[name] ?? -1,
        data: Buffer.from(bytes, 'hex'),
      })),
    }),
  );
  const { readGguf } = await import('lorikeet/io');
  const header = readGguf(path);
  const weights = ggufWeights(
    header,
    new Map(Array.from(header.tensors, ([name, entry]) => [name, { ...entry, hfName: name, interleavedHeads: 0 }])),
  );
  for (const [name, { values }] of Object.entries(golden)) {
    const x = weights.load(name);
    t.deepEqual(await x.data(), Float32Array.from(values), name);
    x.dispose();
  }
  rmSync(folder, { recursive: true });
});

const llama = (more: [string, Field][] = []): [string, Field][] => [
  ['general.architecture', { type: 8, value: 'llama' }],
  ...(Object.entries({ block_count: 1, context_length: 64, embedding_length: 256, feed_forward_length: 64, 'attention.head_count': 2 }).map(
    ([key, value]) => [`llama.${key}`, { type: 4, value }],
  ) as [string, Field][]),
  ['llama.attention.layer_norm_rms_epsilon', { type: 6, value: 1e-5 }],
  ['llama.vocab_size', { type: 4, value: 10 }],
  ...more,
];

async function configOf(pairs: [string, Field][], tensors: Parameters<typeof ggufBytes>[0]['tensors'] = []) {
  const { mkdtempSync, rmSync, writeFileSync } = await import('node:fs');
  const { tmpdir } = await import('node:os');
  const folder = mkdtempSync(join(tmpdir(), 'lorikeet-gguf-'));
  const path = join(folder, 'x.gguf');
  writeFileSync(path, ggufBytes({ pairs, tensors }));
  try {
    return readGgufModel(path).config;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test('rotary scaling: linear, yarn, and the factors of llama3', async (t) => {
  t.is((await configOf(llama())).rope_theta, 10000);
  t.deepEqual(
    (
      await configOf(
        llama([
          ['llama.rope.scaling.type', { type: 8, value: 'linear' }],
          ['llama.rope.scaling.factor', { type: 6, value: 4 }],
        ]),
      )
    ).rope_scaling,
    { rope_type: 'linear', factor: 4 },
  );
  const yarn = await configOf(
    llama([
      ['llama.rope.scaling.type', { type: 8, value: 'yarn' }],
      ['llama.rope.scaling.factor', { type: 6, value: 4 }],
      ['llama.rope.scaling.original_context_length', { type: 4, value: 32768 }],
    ]),
  );
  t.deepEqual(yarn.rope_scaling, { rope_type: 'yarn', factor: 4, original_max_position_embeddings: 32768 });

  // Factors as the definition of the llama3 scaling gives them for theta 500000 and 128 dimensions.
  const factors = Float32Array.from({ length: 64 }, (_, i) => {
    const wavelength = 2 * Math.PI * 500000 ** (i / 64);
    if (wavelength < 8192 / 4) return 1;
    if (wavelength > 8192) return 32;
    const smooth = (8192 / wavelength - 1) / 3;
    return 1 / ((1 - smooth) / 32 + smooth);
  });
  const ropeFreqs = { name: 'rope_freqs.weight', dims: [64], type: 0, data: new Uint8Array(factors.buffer) };
  const theta: [string, Field] = ['llama.rope.freq_base', { type: 6, value: 500000 }];
  t.deepEqual((await configOf(llama([theta]), [ropeFreqs])).rope_scaling, {
    rope_type: 'llama3',
    factor: 32,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 8192,
  });
  await t.throwsAsync(configOf(llama(), [ropeFreqs]), { instanceOf: ConfigError, message: /are not those of a llama3 scaling/ });
});

test('refused: what a config cannot be', async (t) => {
  for (const [pairs, type, message] of [
    [[['general.architecture', { type: 8, value: 'lama' }]], ConfigError, /architecture "lama" is not supported; did you mean "llama"\?/],
    [
      [['general.architecture', { type: 4, value: 1 }]],
      FormatError,
      /metadata "general\.architecture" is wrong; got number 1, expected a text/,
    ],
    [[['general.architecture', { type: 8, value: 'llama' }]], FormatError, /metadata "llama\.attention\.head_count" is missing/],
    [llama([['llama.expert_count', { type: 4, value: 8 }]]), ConfigError, /mixtures of experts/],
    [llama([['llama.rope.dimension_count', { type: 4, value: 64 }]]), ConfigError, /rotating a part of each head/],
    [llama([['llama.rope.scaling.type', { type: 8, value: 'longrope' }]]), ConfigError, /rotary scaling "longrope" is not supported/],
    [
      llama([
        [
          'llama.attention.head_count_kv',
          array(4, [
            { type: 4, value: 1 },
            { type: 4, value: 2 },
          ]),
        ],
      ]),
      FormatError,
      /expected one value for all layers/,
    ],
    [llama([['split.count', { type: 2, value: 3 }]]), FormatError, /is one of several parts/],
  ] as const) {
    await t.throwsAsync(configOf([...pairs] as [string, Field][]), { instanceOf: type, message });
  }
  const expert = { name: 'blk.0.ffn_gate_exps.weight', dims: [32], type: 0, data: new Uint8Array(128) };
  await t.throwsAsync(configOf(llama(), [expert]), { instanceOf: FormatError, message: /mixture of experts/ });
});

test('the published model: all tensors have names, and values of the blocks', async (t) => {
  const folder = dataFolder(t, 'smollm2-135m-instruct');
  if (folder === undefined) return;
  const model = await identifyModel(folder);
  t.is(model.kind, 'gguf');
  if (model.kind !== 'gguf') return;
  t.like(model.config, {
    model_type: 'llama',
    num_hidden_layers: 30,
    rope_theta: 100000,
    tie_word_embeddings: true,
    max_position_embeddings: 8192,
  });
  t.is(model.gguf.tensors.size, 272);
  const weights = ggufWeights(model.gguf.header, model.gguf.tensors);
  const norm = weights.load('model.norm.weight');
  t.deepEqual(norm.shape, [576]);
  t.true(Array.from(await norm.data(), Number).every((value) => Number.isFinite(value)));
  norm.dispose();
});
