import test from 'ava';
import { FormatError } from 'lorikeet';
import { parseSafetensorsHeader } from 'lorikeet/io';

/** The bytes of a header, as a file that holds `dataBytes` after it would begin. */
function head(json: unknown, dataBytes = 0): { bytes: Uint8Array; fileSize: number } {
  const text = Buffer.from(typeof json === 'string' ? json : JSON.stringify(json));
  const bytes = Buffer.alloc(8 + text.length);
  bytes.writeBigUInt64LE(BigInt(text.length));
  text.copy(bytes, 8);
  return { bytes, fileSize: bytes.length + dataBytes };
}

const parse = (json: unknown, dataBytes = 0) => {
  const { bytes, fileSize } = head(json, dataBytes);
  return parseSafetensorsHeader(bytes, fileSize, 'x.safetensors');
};
const f32 = (shape: number[], begin: number, end: number) => ({ dtype: 'F32', shape, data_offsets: [begin, end] });

test('a valid header gives entries in the order of their bytes, with offsets in the file', (t) => {
  const json = {
    __metadata__: { format: 'pt' },
    'später.ключ': f32([2, 3], 2, 26),
    first: { dtype: 'BF16', shape: [], data_offsets: [0, 2] },
  };
  const { bytes, fileSize } = head(json, 26);
  const header = parseSafetensorsHeader(bytes, fileSize, 'x.safetensors');
  t.deepEqual([...header.tensors.keys()], ['first', 'später.ключ']);
  t.deepEqual(header.tensors.get('später.ключ'), { name: 'später.ключ', dtype: 'F32', shape: [2, 3], start: bytes.length + 2, bytes: 24 });
  t.deepEqual(header.metadata, { format: 'pt' });
});

test('empty tensors, trailing spaces and odd names are fine', (t) => {
  t.is(parse('{}   ').tensors.size, 0);
  t.deepEqual(parse({ __metadata__: null }).metadata, {}, 'as mlx writes it');
  t.is(parse({ a: f32([0, 5], 0, 0), b: f32([1], 0, 4), c: f32([3, 0], 4, 4) }, 4).tensors.size, 3);
  t.is(
    parse('{"__proto__":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}, "a\\"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}', 2)
      .tensors.size,
    2,
  );
});

const broken: readonly [what: string, json: unknown, dataBytes: number, message: RegExp][] = [
  ['no JSON', '{"a":', 0, /header is not valid JSON/],
  ['a list', '[]', 0, /does not begin with "\{"/],
  [
    'a repeated tensor',
    '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
    1,
    /repeats a key/,
  ],
  ['a repeated key of a tensor', '{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}', 1, /repeats a key/],
  ['a repeated metadata key', '{"__metadata__":{"a":"1","a":"2"}}', 0, /repeats a key/],
  ['metadata that are no strings', { __metadata__: { a: 1 } }, 0, /"__metadata__" must be an object of strings; got 1 for "a"/],
  ['a tensor that is no object', { a: 5 }, 0, /tensor "a": must be an object; got 5/],
  ['an unknown dtype', { a: { dtype: 'F33', shape: [], data_offsets: [0, 4] } }, 4, /unknown dtype; got "F33"/],
  ['an inherited name as dtype', { a: { dtype: 'toString', shape: [], data_offsets: [0, 4] } }, 4, /unknown dtype/],
  ['an unknown key', { a: { ...f32([], 0, 4), stride: 1 } }, 4, /unknown key "stride"/],
  ['a negative size', { a: f32([-1], 0, 4) }, 4, /"shape" must be/],
  ['a size that is no whole number', { a: f32([1.5], 0, 6) }, 6, /"shape" must be/],
  ['a shape of text', { a: { ...f32([], 0, 4), shape: ['4'] } }, 4, /"shape" must be/],
  ['a size beyond counting', { a: f32([2 ** 40, 2 ** 40], 0, 4) }, 4, /byte range does not fit the shape/],
  ['three offsets', { a: { dtype: 'F32', shape: [1], data_offsets: [0, 4, 8] } }, 8, /"data_offsets" must be two/],
  ['offsets that run backwards', { a: f32([1], 4, 0) }, 4, /run backwards/],
  ['a range of the wrong size', { a: f32([2], 0, 4) }, 4, /got 4 bytes, expected 8 for F32 \[2\]/],
  ['an overlap', { a: f32([2], 0, 8), b: f32([1], 4, 8) }, 8, /tensor "b" overlaps tensor "a"; got offset 4, expected 8/],
  ['a gap', { a: f32([1], 0, 4), b: f32([1], 8, 12) }, 12, /tensor "b" leaves a gap after tensor "a"/],
  ['a first tensor that is not at 0', { a: f32([1], 4, 8) }, 8, /leaves a gap after the header/],
  ['a file that is cut off', { a: f32([4], 0, 16) }, 12, /the file is cut off; got \d+ bytes, expected \d+/],
  ['bytes that belong to nothing', { a: f32([1], 0, 4) }, 5, /bytes that belong to no tensor/],
];

for (const [what, json, dataBytes, message] of broken) {
  test(`refused: ${what}`, (t) => {
    const error = t.throws(() => parse(json, dataBytes), { instanceOf: FormatError });
    t.regex(error.message, /^x\.safetensors: /);
    t.regex(error.message, message);
  });
}

test('refused: lengths that do not fit the file or the limit', (t) => {
  const tiny = new Uint8Array(7);
  t.throws(() => parseSafetensorsHeader(tiny, 7, 'x'), { instanceOf: FormatError, message: /too short/ });
  const { bytes } = head({});
  t.throws(() => parseSafetensorsHeader(bytes, 9, 'x'), { instanceOf: FormatError, message: /does not fit the file/ });
  const huge = new Uint8Array(16).fill(0xff);
  t.throws(() => parseSafetensorsHeader(huge, 2 ** 40, 'x'), { instanceOf: FormatError, message: /header is too large/ });
});

test('refused: a header that is not UTF-8', (t) => {
  const { bytes } = head('{"a":1}');
  bytes[10] = 0xff;
  t.throws(() => parseSafetensorsHeader(bytes, bytes.length, 'x'), { instanceOf: FormatError, message: /not valid UTF-8/ });
});
