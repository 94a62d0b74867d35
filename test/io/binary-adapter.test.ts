import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { ConfigError, FormatError } from 'lorikeet';
import {
  type BinaryAdapterInfo,
  binaryAdapterBytes,
  readBinaryAdapter,
  readBinaryInfo,
  writeBinaryAdapter,
  writeBinaryInfo,
} from '#dist/io/binary-adapter.js';
import { dataFolder } from '../helpers/folders.js';

const info = (
  method: BinaryAdapterInfo['method'],
  dim: number,
  num_class: number,
  bit: BinaryAdapterInfo['bit'] = 1,
): BinaryAdapterInfo => ({
  backbone: 'vit_base_patch16_224_in21k',
  bit,
  dataset: 'svhn',
  dim,
  method,
  num_class,
  scale: 10,
});

test('published files come back to the same bytes, and so do their descriptions', (t) => {
  const published = dataFolder(t, 'published-adapters/binary-adapter');
  if (published === undefined) return;
  let files = 0;
  for (const folder of readdirSync(published)) {
    for (const name of readdirSync(join(published, folder)).filter((entry) => entry.endsWith('.bin'))) {
      const bytes = readFileSync(join(published, folder, name));
      const text = readFileSync(join(published, folder, name.replace(/\.bin$/, '.yaml')), 'utf8');
      const description = readBinaryInfo(text);
      const file = readBinaryAdapter(bytes, description);
      t.is(Buffer.compare(writeBinaryAdapter(file), bytes), 0, `${folder}/${name}`);
      t.is(writeBinaryInfo(description).trim(), text.trim());
      t.is(file.matrices.length, folder.startsWith('lora') ? 48 : 24);
      // Trained values: about half of the codes are 1, and the deviation is that of a trained matrix.
      for (const { name: matrix, codes, meta } of file.matrices) {
        const ones = codes.reduce((sum, byte) => sum + (byte.toString(2).match(/1/g)?.length ?? 0), 0) / (8 * codes.length);
        t.true(ones > 0.2 && ones < 0.8, `${folder}/${name} ${matrix}: ${ones}`);
        t.true((meta[1] as number) < 1);
      }
      files++;
    }
  }
  t.is(files, 16);
});

test('files have the published sizes', (t) => {
  const head = (classes: number): number => 4 * classes * 769;
  t.is(binaryAdapterBytes(info('adaptformer', 32, 100)), 381520);
  t.is(binaryAdapterBytes(info('lora', 32, 10)), 178600);
  t.is(binaryAdapterBytes(info('adaptformer-bihead', 1, 100)), 12104);
  t.is(binaryAdapterBytes(info('lora-bihead', 32, 397)), 185960);
  t.is(binaryAdapterBytes(info('adaptformer', 32, 10)) - head(10), 73920);
  t.is(binaryAdapterBytes(info('adaptformer', 1, 10)) - head(10), 2496);
  t.is(binaryAdapterBytes(info('lora', 32, 10)) - head(10), 147840);
  t.is(binaryAdapterBytes(info('lora', 1, 10)) - head(10), 4992);
  t.is(binaryAdapterBytes(info('adaptformer', 8, 10, 4)) - head(10), 12 * 2 * ((768 * 8 * 4) / 8 + 8));
});

test('a file of another length is an error that names both', (t) => {
  const own = info('adaptformer-bihead', 1, 10);
  const bytes = new Uint8Array(binaryAdapterBytes(own) + 3);
  t.throws(() => readBinaryAdapter(bytes, own), { instanceOf: FormatError, message: /bytes after the end; got 3467 bytes, expected 3464/ });
  t.throws(() => readBinaryAdapter(bytes.subarray(0, 100), own), {
    instanceOf: FormatError,
    message: /too short; got 100 bytes, expected 3464/,
  });
  t.throws(() => readBinaryAdapter(bytes.subarray(0, 3464), own), {
    instanceOf: FormatError,
    message: /no possible mean and deviation; got 0 and 0/,
  });
});

test('what cannot be in such a file is refused', (t) => {
  const refused = { instanceOf: ConfigError };
  const narrow = { blocks: 1, width: 9 };
  t.throws(() => binaryAdapterBytes(info('adaptformer', 1, 2), narrow), {
    ...refused,
    message: /adapter_down" does not fill whole bytes.*\[1, 9\]/,
  });
  const text = (changes: object): string =>
    Object.entries({ bit: 1, dim: 1, method: 'lora', num_class: 10, scale: 1, ...changes })
      .map(([key, value]) => `${key}: ${value}`)
      .join('\n');
  t.throws(() => readBinaryInfo(text({ bit: 3 })), { ...refused, message: /"bit" cannot be used; got 3, expected 1, 2, 4 or 8/ });
  t.throws(() => readBinaryInfo(text({ method: 'fact' })), { ...refused, message: /"method" cannot be used; got "fact"/ });
  t.throws(() => readBinaryInfo(text({ dim: 0 })), { ...refused, message: /"dim"/ });
  t.throws(() => readBinaryInfo(text({ scale: 'x' })), { ...refused, message: /"scale"/ });
  t.throws(() => readBinaryInfo('[]'), refused);
});
