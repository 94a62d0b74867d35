import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { ConfigError, loadModel } from 'lorikeet';
import { readAdapter, readGguf, saveGguf, writeAdapter } from 'lorikeet/io';
import { golden, loadTiny, relativeError } from '../helpers/adapters.js';
import { temporaryFolder } from '../helpers/command-line.js';
import { readJson } from '../helpers/folders.js';

const folder = temporaryFolder();

/** A file as the converters of llama.cpp write it: see scripts/golden/gguf_reference.py. */
interface Described {
  readonly metadata: Readonly<Record<string, unknown>>;
  /** Type, shape and SHA-256 of the bytes; of the rotary factors the values. */
  readonly tensors: Readonly<Record<string, readonly [string, readonly number[], string | readonly number[]]>>;
}

function describe(file: string): Described {
  const { metadata, tensors } = readGguf(file);
  const bytes = readFileSync(file);
  const described = [...tensors.values()].map(({ name, type, shape, start, bytes: size }) => {
    const own = bytes.subarray(start, start + size);
    const content =
      name === 'rope_freqs.weight'
        ? Array.from({ length: size / 4 }, (_, i) => own.readFloatLE(4 * i))
        : createHash('sha256').update(own).digest('hex');
    return [name, [type.name, shape, content]] as const;
  });
  return { metadata: Object.fromEntries(metadata), tensors: Object.fromEntries(described) };
}

/** What we say besides: llama.cpp takes these from elsewhere, or does without. */
const more = /^general\.name$|\.(vocab_size|rope\.dimension_count|attention\.(key_length|value_length|sliding_window))$/;

const models = readJson<Record<string, Described>>(golden, 'gguf/llama-cpp-models.json');
for (const [entry, expected] of Object.entries(models)) {
  test.serial(`${entry} is written with the bytes and metadata of llama.cpp's converter`, async (t) => {
    const [name = '', type = 'f32'] = entry.split(':');
    const model = await loadTiny(`models/${name}`);
    const file = join(folder, `${name}-${type}.gguf`);
    await saveGguf(model, file, { type: type as 'f32' });
    model.dispose();
    const { metadata, tensors } = describe(file);
    const [ours, theirs] = [tensors, expected.tensors].map(({ 'rope_freqs.weight': factors, ...weights }) => ({ factors, weights }));
    t.deepEqual(ours?.weights, theirs?.weights);
    if (theirs?.factors !== undefined) t.true(relativeError(ours?.factors?.[2] as number[], theirs.factors[2] as number[]) < 1e-6);
    for (const [key, value] of Object.entries(expected.metadata)) t.deepEqual(metadata[key], value, key);
    const others = Object.keys(metadata).filter((key) => !(key in expected.metadata));
    t.deepEqual(
      others.filter((key) => !more.test(key)),
      [],
    );
    // The file keeps no more of this scaling than its factors, and these are not those of a published model.
    if (theirs?.factors !== undefined)
      return t.throwsAsync(loadModel(file), { instanceOf: ConfigError, message: /not those of a llama3 scaling/ });
    const again = await loadModel(file);
    t.false(again.hasTokenizer);
    again.dispose();
  });
}

const adapters = readJson<Record<string, Described & { readonly base: string }>>(golden, 'gguf/llama-cpp-adapters.json');
for (const [name, expected] of Object.entries(adapters)) {
  test.serial(`adapter ${name} is written with the bytes and metadata of llama.cpp's converter`, async (t) => {
    const adapter = await readAdapter(join(golden, 'adapters', name));
    const file = join(folder, `${name}-adapter.gguf`);
    await writeAdapter(adapter, 'gguf', file, { config: readJson(golden, expected.base, 'config.json') });
    adapter.dispose();
    const { metadata, tensors } = describe(file);
    t.deepEqual(tensors, expected.tensors);
    t.deepEqual(metadata, expected.metadata);
  });
}
