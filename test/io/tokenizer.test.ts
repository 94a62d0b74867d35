import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { FormatError, InvalidArgumentError } from 'lorikeet';
import { parseGguf, Tokenizer } from 'lorikeet/io';
import { dataFolder, goldenFolder, readJson } from '../helpers/folders.js';
import { type Field, ggufBytes, source } from '../helpers/gguf-bytes.js';

const folder = mkdtempSync(join(tmpdir(), 'lorikeet-tokenizer-'));
test.after.always(() => rmSync(folder, { recursive: true }));

interface Texts {
  readonly texts: readonly { readonly text: string; readonly ids: readonly number[]; readonly decoded: string }[];
}

const golden = (name: string): Tokenizer => Tokenizer.fromGguf(join(goldenFolder, 'gguf', `${name}.gguf`));

for (const [name, skipSpecialTokens] of [
  ['tiny-llama', false],
  ['tiny-qwen2', false],
  ['tokenizer-spm', true],
] as const) {
  test(`${name}: ids and texts as recorded`, async (t) => {
    const tokenizer = golden(name);
    const { texts } = readJson<Texts>(goldenFolder, 'gguf', `${name}.json`);
    for (const { text, ids, decoded } of texts) {
      t.deepEqual(tokenizer.encode(text), ids, JSON.stringify(text));
      t.is(tokenizer.decode(ids, { skipSpecialTokens }), decoded);
      const stream = tokenizer.createStream({ skipSpecialTokens });
      t.is(ids.map((id) => stream.push(id)).join('') + stream.end(), decoded);
    }
    t.deepEqual(
      await tokenizer.encodeBatch(texts.map(({ text }) => text)),
      texts.map(({ ids }) => ids),
    );
  });
}

test('special tokens: put around a text, left out, asked for by role', (t) => {
  const spm = golden('tokenizer-spm');
  t.like(spm, { vocabSize: 512, bosId: 1, eosId: 2, padId: undefined, unkId: 0, stopIds: [2] });
  t.deepEqual(spm.encode('', { addSpecialTokens: false }), []);
  t.deepEqual(spm.encode(''), [1]);
  const ids = spm.encode('Once');
  t.is(ids[0], 1);
  t.deepEqual(spm.encode('Once', { addSpecialTokens: false }), ids.slice(1));
  t.is(spm.decode(ids, { skipSpecialTokens: false }), '<s> Once');
  t.true(spm.isSpecial(1));
  t.false(spm.isSpecial(ids[1] ?? 0));
  const bytes = golden('tiny-llama');
  t.deepEqual(
    bytes.encode('<|im_start|>a<|im_end|>').filter((id) => bytes.isSpecial(id)),
    [1, 2],
  );
});

test('tokens and ids that do not exist are typed errors', (t) => {
  const tokenizer = golden('tiny-llama');
  t.is(tokenizer.tokenToId('<|im_end|>'), 2);
  t.is(tokenizer.idToToken(2), '<|im_end|>');
  t.throws(() => tokenizer.tokenToId('<|im_ende|>'), {
    instanceOf: InvalidArgumentError,
    message: /has no token "<\|im_ende\|>"; did you mean "<\|im_end\|>"/,
  });
  for (const id of [330, -1, 1.5, Number.NaN, 2 ** 40]) {
    t.throws(() => tokenizer.decode([5, id]), {
      instanceOf: InvalidArgumentError,
      message: /no token has this id; got .*, expected 0 to 329/,
    });
    t.throws(() => tokenizer.createStream().push(id), { instanceOf: InvalidArgumentError });
  }
  t.throws(() => tokenizer.encode(5 as never), { instanceOf: InvalidArgumentError, message: /text must be a string; got number/ });
});

test('a stream shows whole characters only, and holds nothing back at the end', (t) => {
  const tokenizer = golden('tiny-llama');
  const ids = tokenizer.encode('東🙂');
  t.true(ids.length > 2);
  const stream = tokenizer.createStream();
  const pieces = ids.map((id) => stream.push(id));
  t.deepEqual(
    pieces.filter((piece) => piece !== ''),
    ['東', '🙂'],
  );
  t.is(stream.end(), '');
  // Half a character at the end is shown as what it is.
  for (const id of ids.slice(0, -1)) stream.push(id);
  t.is(stream.end(), '\ufffd');
});

const text = (value: string): Field => ({ type: 8, value });
const list = (type: number, values: readonly (string | number)[]): Field => ({
  type: 9,
  of: type,
  values: values.map((value) => ({ type, value })),
});
const base: [string, Field][] = [
  ['tokenizer.ggml.model', text('gpt2')],
  ['tokenizer.ggml.pre', text('gpt-2')],
  ['tokenizer.ggml.tokens', list(8, ['<s>', 'a', 'b', 'ab', '1', '2', '3', 'Ġ'])],
  ['tokenizer.ggml.token_type', list(5, [3, 1, 1, 1, 1, 1, 1, 1])],
  ['tokenizer.ggml.merges', list(8, ['a b'])],
];
const withField = (key: string, field: Field | undefined): [string, Field][] => [
  ...base.filter(([name]) => name !== key),
  ...(field === undefined ? [] : ([[key, field]] as [string, Field][])),
];
const build = (pairs: [string, Field][]): Tokenizer => Tokenizer.fromGguf(parseGguf(source(ggufBytes({ pairs }))));

test('metadata that contradict themselves are named', (t) => {
  t.deepEqual(build(base).encode('abba'), [3, 2, 1]);
  for (const [pairs, message] of [
    [withField('tokenizer.ggml.model', undefined), /metadata "tokenizer\.ggml\.model" is missing/],
    [withField('tokenizer.ggml.model', text('t5')), /tokenizer "t5" is not supported; expected gpt2 or llama/],
    [withField('tokenizer.ggml.pre', text('lama-bpe')), /"tokenizer\.ggml\.pre" is not known; got "lama-bpe"; did you mean "llama-bpe"/],
    [withField('tokenizer.ggml.merges', list(8, ['ab'])), /an entry without two parts; got "ab"/],
    [withField('tokenizer.ggml.merges', list(8, ['a z'])), /is no valid tokenizer/],
    [withField('tokenizer.ggml.tokens', list(8, ['a', 'a', 'b', 'ab', '1', '2', '3', 'Ġ'])), /repeats a token/],
    [withField('tokenizer.ggml.tokens', list(4, [1])), /expected a list of texts/],
    [withField('tokenizer.ggml.token_type', list(5, [3, 1])), /has the wrong length; got 2, expected 8/],
    [withField('tokenizer.ggml.bos_token_id', { type: 4, value: 99 }), /"tokenizer\.ggml\.bos_token_id" is no token; got 99/],
  ] as const) {
    t.throws(() => build(pairs as [string, Field][]), { instanceOf: FormatError, message });
  }
});

test('the begin and end tokens follow the metadata, else the kind of tokenizer', (t) => {
  const bos: [string, Field] = ['tokenizer.ggml.bos_token_id', { type: 4, value: 0 }];
  t.deepEqual(build([...base, bos]).encode('a'), [1]);
  t.deepEqual(build([...base, bos, ['tokenizer.ggml.add_bos_token', { type: 7, value: 1 }]]).encode('a'), [0, 1]);
  t.deepEqual(build([...withField('tokenizer.ggml.pre', text('llama-bpe')), bos]).encode('a'), [0, 1]);
  const eos: [string, Field][] = [
    ['tokenizer.ggml.eos_token_id', { type: 4, value: 2 }],
    ['tokenizer.ggml.add_eos_token', { type: 7, value: 1 }],
    ['tokenizer.ggml.eot_token_id', { type: 4, value: 3 }],
  ];
  const tokenizer = build([...base, ...eos]);
  t.deepEqual(tokenizer.encode('a'), [1, 2]);
  t.deepEqual(tokenizer.stopIds, [2, 3]);
});

test('a folder without a tokenizer, and broken ones', async (t) => {
  await t.throwsAsync(Tokenizer.fromFolder(folder), { instanceOf: FormatError, message: /tokenizer\.json: no such file/ });
  for (const [content, message] of [
    ['{', /is not valid JSON/],
    ['[]', /expected a JSON object; got a list of 0/],
    ['{"version":"1.0"}', /is no valid tokenizer/],
    ['{"version":"1.0","added_tokens":5,"model":{"type":"BPE","vocab":{},"merges":[]}}', /is no valid tokenizer/],
  ] as const) {
    writeFileSync(join(folder, 'tokenizer.json'), content);
    await t.throwsAsync(Tokenizer.fromFolder(folder), { instanceOf: FormatError, message });
  }
});

test('files on which the library would end the process are refused', (t) => {
  const json = {
    version: '1.0',
    added_tokens: [] as unknown[],
    normalizer: null,
    pre_tokenizer: null,
    post_processor: null,
    decoder: null,
    model: { type: 'BPE', vocab: { a: 0, b: 1, ab: 2, '##b': 3 }, merges: [['a', 'b']] },
  };
  const from = (changed: object): Tokenizer =>
    Tokenizer.fromData({ source: 'x', json: { ...json, ...changed }, special: {}, stops: [], templates: {} });
  t.deepEqual(from({}).encode('ab'), [2]);
  const template = {
    type: 'TemplateProcessing',
    single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
    pair: [],
    special_tokens: {},
  };
  const added = { id: 4, content: ' ', single_word: false, lstrip: false, rstrip: false, normalized: true, special: false };
  for (const [changed, message] of [
    [{ model: { ...json.model, continuing_subword_prefix: '####' } }, /merge a list of 2 does not go on with the prefix "####"/],
    [{ pre_tokenizer: { type: 'Sequence', pretokenizers: [{ type: 'FixedLength', length: 0 }] } }, /pieces of length 0/],
    [
      { decoder: { type: 'Sequence', decoders: [{ type: 'Strip', content: ' ', start: 0, stop: 2 }] } },
      /stripping at the end is not supported; got stop 2/,
    ],
    [{ post_processor: template }, /"single" uses an undescribed token "<s>"/],
    [{ post_processor: { ...template, single: [{ Sequence: { id: 'B', type_id: 0 } }] } }, /"single" uses the text "B"/],
    [
      { post_processor: { ...template, special_tokens: { '<s>': { id: '<s>', ids: [0, 1], tokens: ['a'] } } } },
      /"ids" and "tokens" of "<s>" differ in length/,
    ],
    [{ normalizer: { type: 'Replace', pattern: { Regex: '(?=a)' }, content: 'x' } }, /replaces empty text/],
    [{ normalizer: { type: 'Replace', pattern: { String: '' }, content: 'x' } }, /replaces empty text/],
    [{ normalizer: { type: 'Prepend', prepend: '' } }, /puts nothing before the text/],
    [
      { normalizer: { type: 'Strip', strip_left: true, strip_right: true }, added_tokens: [added] },
      /nothing is left of the added token " "/,
    ],
  ] as const) {
    t.throws(() => from(changed), { instanceOf: FormatError, message });
  }
});

interface Reference {
  readonly cases: readonly { readonly text: string; readonly ids: readonly number[] }[];
  readonly chats?: readonly {
    readonly prompt: string;
    readonly prompt_text: string;
    readonly prompt_ids: readonly number[];
    readonly new_ids: readonly number[];
    readonly text: string;
  }[];
}

for (const name of ['llama-stories260k', 'smollm2-135m-instruct', 'all-minilm-l6-v2']) {
  test(`${name}: ids, texts and chats of the reference`, async (t) => {
    const data = dataFolder(t, name);
    if (data === undefined) return;
    const tokenizer = name.startsWith('smollm2')
      ? Tokenizer.fromGguf(join(data, 'SmolLM2-135M-Instruct.Q4_1.gguf'))
      : await Tokenizer.fromFolder(data);
    const reference = readJson<Reference & { texts?: Reference['cases'] }>(data, 'reference.json');
    const cases = reference.cases ?? reference.texts ?? [];
    t.true(cases.length > 0);
    for (const { text: written, ids } of cases) {
      t.deepEqual(tokenizer.encode(written), ids);
      if (name !== 'all-minilm-l6-v2') t.is(tokenizer.decode(ids), written);
    }
    for (const { prompt, prompt_text, prompt_ids, new_ids, text: reply } of reference.chats ?? []) {
      const messages = [{ role: 'user', content: prompt }];
      t.is(tokenizer.applyChatTemplate(messages, { addGenerationPrompt: true }), prompt_text);
      t.deepEqual(tokenizer.encodeChat(messages, { addGenerationPrompt: true }), prompt_ids);
      t.is(tokenizer.decode(new_ids), reply);
      const stream = tokenizer.createStream();
      t.is(new_ids.map((id) => stream.push(id)).join('') + stream.end(), reply);
    }
  });
}
