import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import { LorikeetError } from 'lorikeet';
import { identifyModel, parseGguf, parseSafetensorsHeader, readSafetensorsFiles, readTokenizerFolder, Tokenizer } from 'lorikeet/io';
import { ggufConfig } from '#dist/io/gguf/config.js';
import { namedTensors } from '#dist/io/gguf/names.js';
import { ggufTokenizer } from '#dist/io/gguf-tokenizer.js';
import { goldenFolder } from '../helpers/folders.js';
import { ggufBytes, source } from '../helpers/gguf-bytes.js';

// Whatever bytes come, a reader either succeeds or throws a LorikeetError, and soon.
const folder = mkdtempSync(join(tmpdir(), 'lorikeet-fuzz-'));
test.after.always(() => rmSync(folder, { recursive: true }));
const seconds = 2;

function onlyTyped(run: () => unknown): void {
  const start = performance.now();
  try {
    run();
  } catch (error) {
    if (!(error instanceof LorikeetError)) throw error;
  }
  if (performance.now() - start > seconds * 1000) throw new Error('took too long');
}

async function onlyTypedAsync(run: () => Promise<unknown>): Promise<void> {
  try {
    await run();
  } catch (error) {
    if (!(error instanceof LorikeetError)) throw error;
  }
}

/** One change to some bytes: a byte set, a run of bytes replaced by a large number, or a cut. */
const change = fc.oneof(
  fc.record({ kind: fc.constant('set' as const), at: fc.nat(), value: fc.integer({ min: 0, max: 255 }) }),
  fc.record({
    kind: fc.constant('word' as const),
    at: fc.nat(),
    value: fc.constantFrom(0n, 1n, 0x7fffffffn, 0xffffffffn, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n),
  }),
  fc.record({ kind: fc.constant('cut' as const), at: fc.nat(), value: fc.constant(0) }),
  fc.record({ kind: fc.constant('double' as const), at: fc.nat(), value: fc.integer({ min: 1, max: 64 }) }),
);

function mutate(bytes: Uint8Array, changes: readonly (typeof change extends fc.Arbitrary<infer Change> ? Change : never)[]): Uint8Array {
  let result = Buffer.from(bytes);
  for (const { kind, at, value } of changes) {
    if (result.length < 8) break;
    const position = at % (result.length - 7);
    if (kind === 'set') result[position] = Number(value);
    else if (kind === 'word') result.writeBigUInt64LE(value as bigint, position);
    else if (kind === 'cut') result = Buffer.from(result.subarray(0, position));
    else
      result = Buffer.concat([
        result.subarray(0, position),
        result.subarray(position, position + Number(value)),
        result.subarray(position),
      ]);
  }
  return result;
}
const changes = fc.array(change, { minLength: 1, maxLength: 4 });

const text = Buffer.from(
  JSON.stringify({
    __metadata__: { format: 'pt' },
    a: { dtype: 'F32', shape: [2, 2], data_offsets: [0, 16] },
    'b.ü': { dtype: 'BF16', shape: [3], data_offsets: [16, 22] },
  }),
);
const length = Buffer.alloc(8);
length.writeBigUInt64LE(BigInt(text.length));
const safetensors = Buffer.concat([length, text, Buffer.alloc(22)]);

test('safetensors headers: mutated files', (t) => {
  t.is(parseSafetensorsHeader(safetensors, safetensors.length, 'x').tensors.size, 2);
  fc.assert(
    fc.property(changes, (list) => {
      const bytes = mutate(safetensors, list);
      onlyTyped(() => parseSafetensorsHeader(bytes, bytes.length, 'x'));
    }),
    { numRuns: 3000 },
  );
});

test('safetensors headers: any JSON, and entries of nearly the right form', (t) => {
  const number = fc.oneof(fc.integer({ min: -2, max: 64 }), fc.double(), fc.maxSafeInteger(), fc.constant(1e300));
  const entry = fc.record(
    {
      dtype: fc.oneof(fc.constantFrom('F32', 'BF16', 'F4', 'BOOL', 'constructor'), fc.string()),
      shape: fc.array(number, { maxLength: 4 }),
      data_offsets: fc.array(number, { maxLength: 3 }),
    },
    { requiredKeys: [] },
  );
  const header = fc.oneof(
    fc.json(),
    fc.dictionary(fc.string(), fc.oneof(entry, fc.jsonValue()), { maxKeys: 5 }).map((value) => JSON.stringify(value)),
  );
  fc.assert(
    fc.property(header, fc.nat(100), (json, dataBytes) => {
      const body = Buffer.from(json);
      const bytes = Buffer.alloc(8 + body.length);
      bytes.writeBigUInt64LE(BigInt(body.length));
      body.copy(bytes, 8);
      onlyTyped(() => {
        // What is accepted covers the data part exactly, once.
        const { tensors, dataStart } = parseSafetensorsHeader(bytes, bytes.length + dataBytes, 'x');
        const covered = [...tensors.values()].reduce((sum, { bytes: size }) => sum + size, 0);
        if (covered !== dataBytes || dataStart !== bytes.length) throw new Error('accepted a header that does not cover the file');
      });
    }),
    { numRuns: 2000 },
  );
  t.pass();
});

const tinyGguf = readFileSync(join(goldenFolder, 'gguf', 'tiny-llama.gguf'));
const headBytes = Math.min(...Array.from(parseGguf(source(tinyGguf)).tensors.values(), ({ start }) => start));

function readAll(bytes: Uint8Array): void {
  const header = parseGguf(source(bytes));
  for (const { start, bytes: size } of header.tensors.values()) {
    if (start + size > bytes.length) throw new Error('accepted a tensor beyond the end');
  }
  onlyTyped(() => namedTensors(header, ggufConfig(header).interleaved));
  onlyTyped(() => ggufTokenizer(header));
}

test('GGUF: mutated files', (t) => {
  const small = ggufBytes({
    pairs: [
      ['general.architecture', { type: 8, value: 'llama' }],
      [
        'list',
        {
          type: 9,
          of: 8,
          values: [
            { type: 8, value: 'a' },
            { type: 8, value: 'b' },
          ],
        },
      ],
      ['n', { type: 10, value: 5 }],
      ['general.alignment', { type: 4, value: 32 }],
    ],
    tensors: [
      { name: 'token_embd.weight', dims: [32, 2], type: 2, data: new Uint8Array(36) },
      { name: 'blk.0.attn_q.weight', dims: [32], type: 0, data: new Uint8Array(128) },
    ],
  });
  t.notThrows(() => parseGguf(source(small)));
  fc.assert(
    fc.property(changes, (list) => onlyTyped(() => readAll(mutate(small, list)))),
    { numRuns: 3000 },
  );
  // In a whole model, change the header only: the data have no structure.
  fc.assert(
    fc.property(changes, (list) => {
      const head = mutate(tinyGguf.subarray(0, headBytes), list);
      onlyTyped(() => readAll(Buffer.concat([head, tinyGguf.subarray(headBytes)])));
    }),
    { numRuns: 300 },
  );
});

test('GGUF: any bytes after the magic', (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) =>
      onlyTyped(() => readAll(Buffer.concat([Buffer.from('GGUF\x03\0\0\0'), bytes]))),
    ),
    { numRuns: 2000 },
  );
  t.pass();
});

test.serial('config, index and adapter JSON: any JSON and mutated text', async (t) => {
  const config = Buffer.from('{"model_type":"llama","hidden_size":64,"rope_scaling":{"rope_type":"llama3"}}');
  const index = Buffer.from('{"metadata":{"total_size":4},"weight_map":{"a":"x.safetensors"}}');
  const json = fc.oneof(
    fc.json().map((value) => Buffer.from(value)),
    changes.map((list) => mutate(config, list)),
    changes.map((list) => mutate(index, list)),
    fc.uint8Array({ maxLength: 40 }),
  );
  await fc.assert(
    fc.asyncProperty(json, async (bytes) => {
      for (const name of ['config.json', 'model.safetensors.index.json', 'generation_config.json'])
        writeFileSync(join(folder, name), bytes);
      await onlyTypedAsync(() => identifyModel(folder));
      await onlyTypedAsync(() => readSafetensorsFiles(join(folder, 'model.safetensors.index.json')));
    }),
    { numRuns: 300 },
  );
  t.pass();
});

test.serial('tokenizer JSON: mutated files and replaced parts', async (t) => {
  const whole = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [{ id: 0, content: '<s>', single_word: false, lstrip: false, rstrip: false, normalized: false, special: true }],
    normalizer: { type: 'NFC' },
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      vocab: { '<s>': 0, a: 1, b: 2, ab: 3 },
      merges: [['a', 'b']],
    },
  };
  const bytes = Buffer.from(JSON.stringify(whole));
  const replaced = fc
    .record({ part: fc.constantFrom(...Object.keys(whole)), value: fc.jsonValue() })
    .map(({ part, value }) => Buffer.from(JSON.stringify({ ...whole, [part]: value })));
  const inModel = fc
    .record({ part: fc.constantFrom(...Object.keys(whole.model)), value: fc.jsonValue() })
    .map(({ part, value }) => Buffer.from(JSON.stringify({ ...whole, model: { ...whole.model, [part]: value } })));
  const file = fc.oneof(
    changes.map((list) => mutate(bytes, list)),
    replaced,
    inModel,
    fc.json().map((value) => Buffer.from(value)),
  );
  const more = fc.oneof(
    fc.constant(Buffer.from('{"bos_token":"<s>"}')),
    fc.json().map((value) => Buffer.from(value)),
    fc.jsonValue().map((value) => Buffer.from(JSON.stringify({ chat_template: value, bos_token: value }))),
  );
  await fc.assert(
    fc.asyncProperty(file, more, async (content, config) => {
      writeFileSync(join(folder, 'tokenizer.json'), content);
      writeFileSync(join(folder, 'tokenizer_config.json'), config);
      await onlyTypedAsync(() => readTokenizerFolder(folder));
      await onlyTypedAsync(async () => {
        const tokenizer = await Tokenizer.fromFolder(folder);
        await tokenizer.encodeBatch(['ab <s> é']);
        tokenizer.decode([0, 1, 3]);
      });
      // A fixed seed: what is behind this reader is not ours.
    }),
    { numRuns: 400, seed: 7 },
  );
  t.pass();
});

test('any text comes back through a byte-level tokenizer, at once and as a stream', (t) => {
  const tokenizer = Tokenizer.fromGguf(join(goldenFolder, 'gguf', 'tiny-llama.gguf'));
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', maxLength: 30 }), (written) => {
      const ids = tokenizer.encode(written);
      const stream = tokenizer.createStream({ skipSpecialTokens: false });
      const pieces = ids.map((id) => stream.push(id)).join('') + stream.end();
      return tokenizer.decode(ids, { skipSpecialTokens: false }) === written && pieces === written;
    }),
    { numRuns: 200 },
  );
  fc.assert(
    fc.property(fc.array(fc.nat(329), { maxLength: 20 }), (ids) => {
      const stream = tokenizer.createStream();
      return ids.map((id) => stream.push(id)).join('') + stream.end() === tokenizer.decode(ids);
    }),
    { numRuns: 200 },
  );
  t.pass();
});
