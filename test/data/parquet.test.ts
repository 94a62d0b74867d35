import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { exampleOf, type Row, readRows } from 'lorikeet/data';

const golden = 'test/golden/data';

async function rowsOf(path: string): Promise<Row[]> {
  const rows: Row[] = [];
  for await (const row of readRows(path)) rows.push(row);
  return rows;
}

for (const compression of ['snappy', 'none', 'gzip', 'zstd', 'brotli', 'lz4']) {
  test(`${compression}: texts, integers, nulls and lists over two row groups`, async (t) => {
    const path = join(golden, `rows-${compression}.parquet`);
    const rows = await rowsOf(path);
    t.deepEqual(
      rows.map(({ value, where }) => [value.text, value.label, where]),
      [
        ['one', 0, `${path}: row 1`],
        ['zwölf', 1, `${path}: row 2`],
        [null, 2, `${path}: row 3`],
        ['four', 3, `${path}: row 4`],
      ],
    );
    const [first] = rows;
    t.like(first && exampleOf({ messages: 'messages' })(first), { kind: 'chat', messages: [{ role: 'user', content: 'question 0' }] });
    const third = rows[2] as Row;
    t.throws(() => exampleOf({})(third), { message: /row 3: field "text" is null/ });
    t.like(exampleOf({ prompt: 'q {label}', completion: '{label}', labels: ['a', 'b', 'c'] })(third), { completion: 'c' });
  });
}

test('a broken file is a format error', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'lorikeet-parquet-'));
  const path = join(folder, 'cut.parquet');
  writeFileSync(path, readFileSync(join(golden, 'rows-snappy.parquet')).subarray(0, 200));
  await t.throwsAsync(rowsOf(path), { code: 'format', message: /cut\.parquet: not a readable Parquet file/ });
  rmSync(folder, { recursive: true });
});
