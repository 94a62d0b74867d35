import { closeSync, ftruncateSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { disposeTensors, FormatError, InvalidArgumentError, memory, type Tensor } from 'lorikeet';
import { loadSafetensors, readSafetensorsFiles, readSafetensorsHeader, saveSafetensors, writeSafetensors } from 'lorikeet/io';
import { add, cast, copyInto, permute, tensor } from 'lorikeet/ops';
import { dataFolder } from '../helpers/folders.js';
import { settledBytes } from '../helpers/settled-bytes.js';

const folder = mkdtempSync(join(tmpdir(), 'lorikeet-safetensors-'));
test.after.always(() => rmSync(folder, { recursive: true }));
test.after((t) => t.is(memory().tensors, 0));

const bytesOf = (values: ArrayBufferView): Uint8Array => new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

test.serial('every dtype comes back as it was saved, views as what they show', async (t) => {
  const path = join(folder, 'all.safetensors');
  const wide = tensor([1.5, -2.25, 65504, 1e-7, Number.NaN, Number.POSITIVE_INFINITY], { shape: [2, 3] });
  const saved: Record<string, Tensor> = {
    f64: cast(wide, 'f64'),
    f32: wide,
    bf16: cast(wide, 'bf16'),
    f16: cast(wide, 'f16'),
    i64: tensor(BigInt64Array.of(2n ** 62n, -1n)),
    i32: tensor(Int32Array.of(-5)),
    u8: tensor(Uint8Array.of(0, 255, 3)),
    bool: tensor([true, false, true], { dtype: 'bool' }),
    turned: permute(wide, [1, 0]),
    'größe.名': tensor([7]),
    empty: tensor(new Float32Array(0), { shape: [0, 4] }),
  };
  await saveSafetensors(path, saved, { format: 'pt', note: 'é' });
  t.deepEqual(readSafetensorsHeader(path).metadata, { format: 'pt', note: 'é' });
  const loaded = await loadSafetensors(path);
  t.deepEqual([...loaded.keys()].sort(), Object.keys(saved).sort());
  for (const [name, before] of Object.entries(saved)) {
    const after = loaded.get(name);
    t.deepEqual(after?.shape, before.shape, name);
    t.is(after?.dtype, before.dtype, name);
    t.deepEqual(await after?.data(), await before.data(), name);
  }
  disposeTensors([...Object.values(saved), ...loaded.values()]);
});

test.serial('tensors lie in the mapped file and cannot be changed in place', async (t) => {
  const path = join(folder, 'mapped.safetensors');
  await writeSafetensors(path, { w: { dtype: 'F32', shape: [1024], data: new Uint8Array(4096) } });
  const before = await settledBytes();
  const loaded = await loadSafetensors(path);
  const w = loaded.get('w') as Tensor;
  await w.data();
  t.is(memory().bytes, before);
  const sum = add(w, 1);
  t.is((await sum.data())[1023], 1);
  t.throws(() => copyInto(w, sum), {
    instanceOf: InvalidArgumentError,
    message: /view of a file and cannot be changed in place; clone it/,
  });
  // The mapping outlives the name of the file.
  rmSync(path);
  t.is((await w.data())[0], 0);
  disposeTensors([w, sum]);
});

test.serial('a tensor may be disposed while it is being saved', async (t) => {
  const path = join(folder, 'early.safetensors');
  const x = tensor([1, 2, 3]);
  const saving = saveSafetensors(path, new Map([['x', x]]));
  x.dispose();
  await saving;
  const loaded = await loadSafetensors(path);
  t.deepEqual(await loaded.get('x')?.data(), Float32Array.of(1, 2, 3));
  disposeTensors(loaded.values());
});

test.serial('a file of more than 2 GiB loads at its 64-bit offsets', async (t) => {
  const path = join(folder, 'large.safetensors');
  const rows = 3 * 2 ** 20;
  const bytes = rows * 256 * 4;
  const json = JSON.stringify({
    big: { dtype: 'F32', shape: [rows, 256], data_offsets: [0, bytes] },
    tail: { dtype: 'F32', shape: [2], data_offsets: [bytes, bytes + 8] },
  });
  const head = Buffer.alloc(8 + Math.ceil(json.length / 8) * 8, ' ');
  head.writeBigUInt64LE(BigInt(head.length - 8));
  head.write(json, 8);
  const file = openSync(path, 'w');
  writeSync(file, head);
  ftruncateSync(file, head.length + bytes + 8);
  writeSync(file, bytesOf(Float32Array.of(4, 5)), 0, 8, head.length + bytes);
  closeSync(file);
  const loaded = await loadSafetensors(path);
  t.deepEqual(loaded.get('big')?.shape, [rows, 256]);
  t.deepEqual(await loaded.get('tail')?.data(), Float32Array.of(4, 5));
  disposeTensors(loaded.values());
  rmSync(path);
});

test.serial('data that are not aligned for their dtype are read all the same', async (t) => {
  const path = join(folder, 'odd.safetensors');
  const json = JSON.stringify({
    a: { dtype: 'U8', shape: [1], data_offsets: [0, 1] },
    b: { dtype: 'F32', shape: [2], data_offsets: [1, 9] },
  });
  const head = Buffer.alloc(8 + json.length);
  head.writeBigUInt64LE(BigInt(json.length));
  head.write(json, 8);
  writeFileSync(path, Buffer.concat([head, Uint8Array.of(9), bytesOf(Float32Array.of(1.5, -3))]));
  const loaded = await loadSafetensors(path);
  t.deepEqual(await loaded.get('a')?.data(), Uint8Array.of(9));
  t.deepEqual(await loaded.get('b')?.data(), Float32Array.of(1.5, -3));
  disposeTensors(loaded.values());
});

test.serial('a dtype that cannot be computed with is named, and can still be listed', async (t) => {
  const path = join(folder, 'f8.safetensors');
  await writeSafetensors(path, {
    a: { dtype: 'F32', shape: [1], data: new Uint8Array(4) },
    w: { dtype: 'F8_E4M3', shape: [3], data: new Uint8Array(3) },
  });
  t.is(readSafetensorsHeader(path).tensors.get('w')?.dtype, 'F8_E4M3');
  await t.throwsAsync(loadSafetensors(path), {
    instanceOf: FormatError,
    message: /tensor "w" has a dtype that cannot be computed with; got F8_E4M3/,
  });
});

test.serial('a failed write leaves the file that was there and no other', async (t) => {
  const path = join(folder, 'kept.safetensors');
  await writeSafetensors(path, { a: { dtype: 'U8', shape: [1], data: Uint8Array.of(1) } });
  const before = readFileSync(path);
  const failing = {
    a: { dtype: 'U8', shape: [1], data: Uint8Array.of(2) },
    b: { dtype: 'U8', shape: [4], data: () => Promise.reject(new Error('no more')) },
  } as const;
  await t.throwsAsync(writeSafetensors(path, failing), { message: 'no more' });
  const short = { b: { dtype: 'U8', shape: [4], data: new Uint8Array(3) } } as const;
  await t.throwsAsync(writeSafetensors(path, short), {
    instanceOf: InvalidArgumentError,
    message: /tensor "b" has the wrong size; got 3 bytes, expected 4/,
  });
  t.deepEqual(readFileSync(path), before);
  t.deepEqual(
    readdirSync(folder).filter((name) => name.includes('kept')),
    ['kept.safetensors'],
  );
});

test.serial('shards are read as one checkpoint, and whatever does not fit is named', async (t) => {
  const one = {
    a: { dtype: 'F32', shape: [1], data: bytesOf(Float32Array.of(1)) },
    x: { dtype: 'U8', shape: [1], data: Uint8Array.of(0) },
  } as const;
  const two = { b: { dtype: 'F32', shape: [1], data: bytesOf(Float32Array.of(2)) } } as const;
  await writeSafetensors(join(folder, 's-1.safetensors'), one);
  await writeSafetensors(join(folder, 's-2.safetensors'), two);
  const index = join(folder, 's.safetensors.index.json');
  const write = (weight_map: unknown): void => writeFileSync(index, JSON.stringify({ metadata: { total_size: 9 }, weight_map }));

  write({ a: 's-1.safetensors', b: 's-2.safetensors' });
  const files = await readSafetensorsFiles(index);
  t.deepEqual([...files.tensors.keys()].sort(), ['a', 'b']);
  t.deepEqual(files.unexpected, ['x']);
  await t.throwsAsync(loadSafetensors(index), {
    instanceOf: FormatError,
    message: /1 tensors of the shards are not in the index; got "x"/,
  });

  write({ a: 's-1.safetensors', x: 's-1.safetensors', b: 's-2.safetensors' });
  const loaded = await loadSafetensors(index);
  t.deepEqual(await loaded.get('b')?.data(), Float32Array.of(2));
  disposeTensors(loaded.values());

  for (const [map, message] of [
    [{ a: 's-3.safetensors' }, /1 of 1 shards are missing; expected s-3\.safetensors/],
    [{ c: 's-1.safetensors' }, /s-1\.safetensors: tensor "c" is missing/],
    [{ a: '../s-1.safetensors' }, /must name files of the same folder; got "\.\.\/s-1\.safetensors"/],
    [{ a: '..' }, /must name files of the same folder/],
    [{ a: 3 }, /must name files of the same folder; got 3/],
    [[], /"weight_map" must be an object; got a list of 0/],
  ] as const) {
    write(map);
    await t.throwsAsync(readSafetensorsFiles(index), { instanceOf: FormatError, message });
  }
});

test.serial('missing files, folders and empty files are format errors', async (t) => {
  await t.throwsAsync(loadSafetensors(join(folder, 'none.safetensors')), {
    instanceOf: FormatError,
    message: /none\.safetensors: cannot be opened/,
  });
  await t.throwsAsync(loadSafetensors(folder), { instanceOf: FormatError, message: /is not a regular file/ });
  const empty = join(folder, 'empty.safetensors');
  writeFileSync(empty, '');
  await t.throwsAsync(loadSafetensors(empty), { instanceOf: FormatError, message: /too short for a safetensors file; got 0 bytes/ });
});

test.serial('a published checkpoint reads back equal after saving', async (t) => {
  const source = dataFolder(t, 'llama-stories260k');
  if (source === undefined) return;
  const loaded = await loadSafetensors(join(source, 'model.safetensors'));
  t.is(loaded.size, 47);
  const copy = join(folder, 'copy.safetensors');
  await saveSafetensors(copy, loaded);
  const again = await loadSafetensors(copy);
  for (const [name, x] of loaded) t.deepEqual(await again.get(name)?.data(), await x.data());
  disposeTensors([...loaded.values(), ...again.values()]);
});
