import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { ConfigError, FormatError } from 'lorikeet';
import { readPooling, writePooling } from '#dist/io/sentence-encoder.js';

/** A folder with these JSON files. */
function folderOf(t: ExecutionContext, files: Record<string, unknown>): string {
  const folder = mkdtempSync(join(tmpdir(), 'lorikeet-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  for (const [name, value] of Object.entries(files)) {
    mkdirSync(join(folder, name, '..'), { recursive: true });
    writeFileSync(join(folder, name), JSON.stringify(value));
  }
  return folder;
}

const moduleOf = (type: string, path: string) => ({ idx: 0, name: '0', path, type });
const encoder = moduleOf('sentence_transformers.models.Transformer', '');
const pooling = moduleOf('sentence_transformers.models.Pooling', '1_Pooling');
const normalize = moduleOf('sentence_transformers.models.Normalize', '2_Normalize');
const config = '1_Pooling/config.json';

test('flags of older files, names of newer ones, and normalisation', async (t) => {
  const mean = { word_embedding_dimension: 8, pooling_mode_cls_token: false, pooling_mode_mean_tokens: true };
  const cases: readonly (readonly [Record<string, unknown>, unknown])[] = [
    [{}, undefined],
    [{ [config]: mean }, { mode: ['mean'] }],
    [{ [config]: { ...mean, pooling_mode_cls_token: true, pooling_mode_lasttoken: true } }, { mode: ['cls', 'mean', 'lasttoken'] }],
    [{ [config]: { embedding_dimension: 8, pooling_mode: 'weightedmean' } }, { mode: ['weightedmean'] }],
    [{ [config]: { pooling_mode: ['max', 'cls'] } }, { mode: ['max', 'cls'] }],
    [
      { [config]: mean, 'modules.json': [encoder, pooling, normalize] },
      { mode: ['mean'], normalize: true },
    ],
    [{ [config]: mean, 'modules.json': [encoder, pooling] }, { mode: ['mean'] }],
    [
      { 'modules.json': [encoder, moduleOf('sentence_transformers.sentence_transformer.modules.normalize.Normalize', '')] },
      { normalize: true },
    ],
    [{ 'modules.json': [encoder] }, undefined],
  ];
  for (const [files, expected] of cases) t.deepEqual(await readPooling(folderOf(t, files)), expected);
});

test('what cannot be read or computed is refused', async (t) => {
  const dense = folderOf(t, { 'modules.json': [encoder, moduleOf('sentence_transformers.models.Dense', '2_Dense')] });
  await t.throwsAsync(readPooling(dense), { instanceOf: ConfigError, message: /not supported; got Dense, expected Transformer, Pooling/ });
  const unknown = folderOf(t, { [config]: { pooling_mode: 'average' } });
  await t.throwsAsync(readPooling(unknown), { instanceOf: ConfigError, message: /unknown "pooling_mode" "average"; expected one of cls/ });
  await t.throwsAsync(readPooling(folderOf(t, { 'modules.json': {} })), { instanceOf: FormatError, message: /expected a list of modules/ });
  await t.throwsAsync(readPooling(folderOf(t, { 'modules.json': [{ type: 1 }] })), {
    instanceOf: FormatError,
    message: /a type and a path/,
  });
});

test('what is written reads back, as flags where they keep the order', async (t) => {
  for (const [pooling, keepsOrder] of [
    [{ mode: ['mean'] }, true],
    [{ mode: ['cls', 'max'], normalize: true }, true],
    [{ mode: ['mean', 'cls'] }, false],
  ] as const) {
    const folder = folderOf(t, {});
    await writePooling(folder, pooling, 16);
    t.deepEqual(await readPooling(folder), { ...pooling, mode: [...pooling.mode] });
    const config = JSON.parse(readFileSync(join(folder, '1_Pooling/config.json'), 'utf8'));
    t.is(config.word_embedding_dimension, 16);
    t.is(config.pooling_mode === undefined, keepsOrder);
  }
});
