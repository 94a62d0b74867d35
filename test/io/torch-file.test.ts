// Files of torch.save: values against safetensors of the same tensors, adapters that hold nothing else, and files that are not what they say.
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { loadAdapter, type Tensor } from 'lorikeet';
import { identifyModel, loadSafetensors, readAdapter } from 'lorikeet/io';
import { cast } from 'lorikeet/ops';
import { loadTorchFile, readTorchFile } from '#dist/io/torch-file.js';
import { golden, loadTiny, logitsOf, readReference, referenceError, sameBits, temporaryFolder } from '../helpers/adapters.js';
import { lastJson, lorikeet } from '../helpers/command-line.js';
import { storedZip, tensorPickle, torchArchive } from '../helpers/torch-file.js';

const recorded = (name: string): string => join(golden, 'torch', name);
const plain = join(golden, 'adapters', 'plain');

/** A folder of the recorded adapter with its weights in these files. */
function adapterFolder(weights: Readonly<Record<string, string>>): string {
  const folder = join(temporaryFolder(), 'adapter');
  mkdirSync(folder);
  copyFileSync(join(plain, 'adapter_config.json'), join(folder, 'adapter_config.json'));
  for (const [name, from] of Object.entries(weights)) copyFileSync(from, join(folder, name));
  return folder;
}

const numbersOf = async (value: Tensor): Promise<number[]> => {
  const wide = cast(value, 'f64');
  const numbers = Array.from((await wide.data()) as Float64Array);
  wide.dispose();
  return numbers;
};

for (const name of ['kinds', 'state-dict']) {
  test.serial(`${name}: shapes, dtypes and values are those that torch saved`, async (t) => {
    const expected = await loadSafetensors(recorded(`${name}.safetensors`));
    const found = loadTorchFile(recorded(`${name}.bin`));
    t.deepEqual([...found.keys()].sort(), [...expected.keys()].sort());
    for (const [key, value] of found) {
      const other = expected.get(key) as Tensor;
      t.deepEqual([value.dtype, value.shape], [other.dtype, other.shape], key);
      t.deepEqual(await numbersOf(value), await numbersOf(other), key);
      value.dispose();
      other.dispose();
    }
  });
}

test.serial('an adapter of adapter_model.bin alone is loaded, told, and converted; beside safetensors it is not opened', async (t) => {
  const folder = adapterFolder({ 'adapter_model.bin': recorded('adapter_model.bin') });
  const model = await loadTiny();
  const tuned = await loadAdapter(model, folder);
  t.true((await referenceError(tuned, readReference(join(plain, 'reference.json')))) < 1e-5);
  const logits = await logitsOf(tuned, [3, 17, 42]);
  tuned.dispose();
  const both = adapterFolder({
    'adapter_model.bin': recorded('module.bin'),
    'adapter_model.safetensors': join(plain, 'adapter_model.safetensors'),
  });
  const other = await loadAdapter(model, both);
  t.true(sameBits(await logitsOf(other, [3, 17, 42]), logits));
  other.dispose();
  model.dispose();

  t.like(await identifyModel(folder), { kind: 'adapter' });
  const portable = await readAdapter(folder);
  t.is(portable.dialect, 'peft');
  t.is(portable.pairs.size, 4);
  portable.dispose();
  const out = join(temporaryFolder(), 'converted');
  const [inspected, converted] = [
    await lorikeet(['inspect', folder, '--json']),
    await lorikeet(['convert', '--from', folder, '--to', 'peft', '--out', out, '--json']),
  ];
  t.is(inspected.code, 0, inspected.stderr);
  t.like(lastJson(inspected), { kind: 'adapter folder', problems: [] });
  t.is(converted.code, 0, converted.stderr);
  const [before, after] = [
    readTorchFile(join(folder, 'adapter_model.bin')).tensors,
    await loadSafetensors(join(out, 'adapter_model.safetensors')),
  ];
  t.deepEqual([...after.keys()].sort(), [...before.keys()].sort());
  for (const value of after.values()) value.dispose();
});

test.serial('tensors lie anywhere in the file, aligned or not', async (t) => {
  for (const bytes of [0, 1, 2, 3]) {
    const path = join(temporaryFolder(), 'adapter_model.bin');
    const padding = ['archive/padding', new Uint8Array(bytes)] as const;
    writeFileSync(
      path,
      storedZip([padding, ['archive/data.pkl', tensorPickle()], ['archive/data/0', new Uint8Array([0, 0, 128, 63, 0, 0, 0, 64])]]),
    );
    const found = loadTorchFile(path).get('x') as Tensor;
    t.deepEqual(await numbersOf(found), [1, 2]);
    found.dispose();
  }
});

const zip = readFileSync(recorded('kinds.bin'));
const os = 'cposix\nsystem\n(X\x04\x00\x00\x00exittR0';
const wrong: Readonly<Record<string, readonly [Buffer, RegExp]>> = {
  'an empty file': [Buffer.alloc(0), /is no file of torch\.save, or cut off/],
  'no archive': [Buffer.from('hello '.repeat(50)), /is no file of torch\.save, or cut off/],
  'the format before the archives': [
    readFileSync(recorded('legacy.bin')),
    /expected the zip archive that torch writes from version 1\.6 on/,
  ],
  'a file cut at its end': [zip.subarray(0, -30), /cut off/],
  'a file cut in front': [zip.subarray(100), /is a broken zip archive/],
  'compressed files': [torchArchive(tensorPickle(), 8, [], { method: 8 }), /"archive\/data\.pkl" is compressed or encrypted/],
  'a size beyond the file': [torchArchive(tensorPickle(), 8, [], { size: 1 << 30 }), /"archive\/data\.pkl" lies outside the file/],
  'a size of zip64': [torchArchive(tensorPickle(), 8, [], { size: 0xffffffff }), /over 4 GiB/],
  'an offset beyond the file': [torchArchive(tensorPickle(), 8, [], { offset: 1 << 30 }), /lies outside the file/],
  'an offset to something else': [torchArchive(tensorPickle(), 8, [], { offset: 7 }), /does not begin where the directory says/],
  'two files of one name': [torchArchive(tensorPickle(), 8, [['archive/data/0', new Uint8Array(8)]]), /two of its files are called/],
  'no pickle': [storedZip([['archive/data/0', new Uint8Array(8)]]), /got 0 files data\.pkl/],
  'two pickles': [torchArchive(tensorPickle(), 8, [['other/data.pkl', tensorPickle()]]), /got 2 files data\.pkl/],
  'another byte order': [torchArchive(tensorPickle(), 8, [['archive/byteorder', Buffer.from('big')]]), /got "big", expected "little"/],
  'a call of the system': [torchArchive(tensorPickle({ before: os })), /it names "posix\.system", which .* is not run/],
  'a call of eval': [torchArchive(tensorPickle({ before: 'c__builtin__\neval\n0' })), /it names "__builtin__\.eval"/],
  'a whole module': [readFileSync(recorded('module.bin')), /it names "torch\.nn\.modules\.container\.Sequential"/],
  'an object made by its class': [
    torchArchive(tensorPickle({ call: '\x81' })),
    /instruction 0x81 at byte \d+ is not one of a dictionary of tensors/,
  ],
  'a storage as a function': [torchArchive(tensorPickle({ before: 'ctorch\nFloatStorage\n)R0' })), /it calls torch\.FloatStorage with/],
  'an unknown storage': [torchArchive(tensorPickle({ type: 'QInt8Storage' })), /it names "torch\.QInt8Storage"/],
  'another protocol': [torchArchive(Buffer.from('\x80\x04}.', 'latin1')), /protocol 4, expected 2/],
  'a pickle cut off': [torchArchive(tensorPickle().subarray(0, 40)), /its pickle is cut off/],
  'a pickle without its end': [torchArchive(tensorPickle().subarray(0, -1)), /its pickle is cut off/],
  'a text longer than the pickle': [torchArchive(Buffer.from('\x80\x02}X\xff\xff\xff\x7fab', 'latin1')), /its pickle is cut off/],
  'a value that is not there': [torchArchive(Buffer.from('\x80\x02h\x05.', 'latin1')), /takes what is not there/],
  'a stack that is empty': [torchArchive(Buffer.from('\x80\x02R.', 'latin1')), /takes what is not there/],
  'a mark that is not there': [torchArchive(Buffer.from('\x80\x02u.', 'latin1')), /takes what is not there/],
  'values that take far more memory than their file': [
    torchArchive(Buffer.from(`\x80\x02}${'N'.repeat(1 << 22)}}.`, 'latin1')),
    /its pickle makes more than 4194304 values/,
  ],
  'a number of 255 bytes': [
    torchArchive(Buffer.from(`\x80\x02\x8a\xff${'\x7f'.repeat(255)}.`, 'latin1')),
    /number of its pickle is too large/,
  ],
  'a list in place of a dictionary': [torchArchive(Buffer.from('\x80\x02].', 'latin1')), /holds no dictionary of tensors; got a list/],
  'a dictionary in it': [readFileSync(recorded('nested.bin')), /holds more than tensors by name; got a dictionary under "nested"/],
  'a storage that is missing': [
    torchArchive(tensorPickle({ key: '../data.pkl' })),
    /storage that is missing; expected "archive\/data\/\.\.\/data\.pkl"/,
  ],
  'a storage of another size': [
    torchArchive(tensorPickle(), 4),
    /tensor "x" lies in a storage of another size; got 4 bytes, expected 2 elements of F32/,
  ],
  'a tensor beyond its storage': [torchArchive(tensorPickle({ offset: 1 })), /lies outside its storage; got \[2\] at element 1 of 2/],
  'a tensor of a huge size': [
    torchArchive(tensorPickle({ shape: [0x7fffffff, 0x7fffffff, 0x7fffffff], strides: [1, 1, 1] })),
    /lies outside its storage/,
  ],
  'a negative size': [torchArchive(tensorPickle({ shape: [-2] })), /_rebuild_tensor_v2 with what is not understood/],
  'more dimensions than a tensor has': [
    torchArchive(tensorPickle({ shape: new Array<number>(17).fill(1), strides: new Array<number>(17).fill(1) })),
    /_rebuild_tensor_v2 with what is not understood/,
  ],
  'strides of another rank': [torchArchive(tensorPickle({ strides: [1, 1] })), /has a shape that cannot be/],
  'a tensor in steps': [
    readFileSync(recorded('steps.bin')),
    /tensor "steps" lies in steps in its storage; got \[4,3\] with strides \[6,2\]/,
  ],
  'a row told many times': [torchArchive(tensorPickle({ shape: [2], strides: [0] })), /lies in steps/],
  'a dtype without kernels': [readFileSync(recorded('i16.bin')), /tensor "i16" has a dtype that cannot be computed with; got I16/],
};

for (const [name, [bytes, message]] of Object.entries(wrong)) {
  test.serial(`refused: ${name}`, (t) => {
    const path = join(temporaryFolder(), 'adapter_model.bin');
    writeFileSync(path, bytes);
    t.throws(() => loadTorchFile(path), { code: 'format', message });
  });
}

test.serial('whatever byte is damaged, a file is read or refused as broken', (t) => {
  const path = join(temporaryFolder(), 'adapter_model.bin');
  const good = torchArchive(tensorPickle());
  for (let at = 0; at < good.length; at++) {
    for (const flip of [0x01, 0x80, 0xff]) {
      const bad = Buffer.from(good);
      bad[at] = (bad[at] as number) ^ flip;
      writeFileSync(path, bad);
      try {
        readTorchFile(path);
      } catch (error) {
        t.is((error as { code?: string }).code, 'format', `${at} ${flip}: ${(error as Error).message}`);
      }
    }
  }
  t.pass();
});
