import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import { type DataSource, loadDataset, openStreamedDataset, type RowSet } from 'lorikeet/data';
import { temporaryFolder } from '../helpers/command-line.js';
import { letters } from '../helpers/letters.js';

const folder = temporaryFolder();
const options = { sequence: 64, badRows: 'skip' } as const;

/** The good rows of a set, or why there are none. */
async function outcome(open: () => Promise<RowSet>): Promise<unknown> {
  try {
    const set = await open();
    const rows = await set.rows([...Array(set.length).keys()]);
    await set.close();
    const good = rows.filter((row) => row !== undefined).map(({ ids, where }) => [where, ...ids]);
    return good.length === 0 ? 'no rows' : good;
  } catch (error) {
    const { code, message } = error as { code: string; message: string };
    return message.includes('has no rows') ? 'no rows' : [code, message];
  }
}

const pieces = ['a', 'é', '"', '""', ',', '\n', '\n\n', '\r\n', ' ', '{"text":"b"}\n', '{"text":""}\n', '"x\ny"', '\0', '\ufeff'];

for (const [extension, head] of [
  ['jsonl', ''],
  ['txt', ''],
  ['csv', 'text\n'],
  ['csv', '\n text,label\r\n'],
] as const) {
  test(`${extension} after ${JSON.stringify(head)}: any text gives the same rows streamed and in memory`, async (t) => {
    const path = join(folder, `fuzz-${head.length}.${extension}`);
    const source: DataSource & { path: string } = { path, field: head.includes('label') ? 'label' : 'text' };
    await fc.assert(
      fc.asyncProperty(fc.array(fc.constantFrom(...pieces), { maxLength: 30 }), async (parts) => {
        writeFileSync(path, head + parts.join(''));
        const [held, streamed] = [
          await outcome(() => loadDataset(source, letters, options)),
          await outcome(() => openStreamedDataset(source, letters, options)),
        ];
        t.deepEqual(streamed, held, JSON.stringify(parts));
      }),
      { numRuns: 40 },
    );
  });
}
