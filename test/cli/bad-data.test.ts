import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { type DataSource, loadDataset } from 'lorikeet/data';
import { Tokenizer } from 'lorikeet/io';
import { temporaryFolder } from '../helpers/command-line.js';
import { shippedModel } from '../helpers/shipped.js';

// Each file is refused with its name, the line where there are lines, what was found and what was expected.

const path = join(temporaryFolder(), 'rows');
const tokenizer = Tokenizer.fromFolder(shippedModel);
const labelled = { prompt: '{q}', completion: '{label}', labels: ['yes', 'no'] };
const chat = { messages: 'messages' };
const pair = { prompt: 'p', completion: 'c' };

type Case = readonly [extension: string, content: string | Uint8Array, message: RegExp, fields?: object, code?: string];
const cases: Readonly<Record<string, Case>> = {
  'no rows': ['.jsonl', '', /data: ".*" has no rows/, {}, 'config'],
  'blank lines': ['.jsonl', '\n\n', /has no rows/, {}, 'config'],
  'no rows of text': ['.txt', '', /has no rows/, {}, 'config'],
  'no rows of a table': ['.csv', '', /has no rows/, {}, 'config'],
  'a line that is no JSON': ['.jsonl', '{"text":"a b c"}\n{oops}\n', /\.jsonl:2: not a JSON object/],
  'a row that is a list': ['.jsonl', '[1]\n', /\.jsonl:1: a row must be an object; got an array/],
  'a row that is a text': ['.jsonl', '"x"\n', /a row must be an object; got a string/],
  'another field': ['.jsonl', '{"text":"a b"}\n{"txt":"a"}\n', /\.jsonl:2: no field "text"; got fields "txt"; did you mean "txt"\?/],
  'a field that is null': ['.jsonl', '{"text":null}\n', /\.jsonl:1: field "text" is null/],
  'an empty text': ['.jsonl', '{"text":""}\n', /nothing to learn; got 1 token, expected at least 2; use `emptyRows: skip`/],
  'bytes that are no UTF-8': [
    '.jsonl',
    Buffer.concat([Buffer.from('{"text":"'), Buffer.from([0xff]), Buffer.from('"}\n')]),
    /\.jsonl:1: not valid UTF-8/,
  ],
  'a label out of range': [
    '.jsonl',
    '{"q":"a","label":7}\n',
    /field "label" is no label; got 7, expected 0 to 1 or one of yes, no/,
    labelled,
  ],
  'a negative label': ['.jsonl', '{"q":"a","label":-1}\n', /got -1, expected 0 to 1/, labelled],
  'half a label': ['.jsonl', '{"q":"a","label":0.5}\n', /got 0\.5, expected 0 to 1/, labelled],
  'no label': ['.jsonl', '{"q":"a"}\n', /no field "label"; got fields "q"/, labelled],
  'no prompt': ['.jsonl', '{"label":1}\n', /no field "q"; got fields "label"/, labelled],
  'messages as a text': ['.jsonl', '{"messages":"hi"}\n', /field "messages" must be a list of messages; got "hi"/, chat],
  'no messages': ['.jsonl', '{"messages":[]}\n', /must be a list of messages; got \[\]/, chat],
  'a message without a role': [
    '.jsonl',
    '{"messages":[{"content":"a"}]}\n',
    /message 1 must have text "role" and "content", or "tool_calls"; got \{"content":"a"\}/,
    chat,
  ],
  'a model without a chat template': [
    '.jsonl',
    '{"messages":[{"role":"assistant","content":"a"}]}\n',
    /has no chat template/,
    chat,
    'config',
  ],
  'a prompt that fills the sequence': [
    '.jsonl',
    `{"p":"${'word '.repeat(200)}","c":"x"}\n`,
    /what comes before the completion fills all 64 tokens/,
    pair,
  ],
  'an object in place of an array': ['.json', '{"text":"a"}', /\.json: expected an array of objects; got object/],
  'an array that is never closed': ['.json', '[{"text":"a"}', /\.json: not valid JSON/],
  'an element that is a number': ['.json', '[1]', /row 1: a row must be an object; got a number/],
  'a table without the column': ['.csv', 'a,b\n1,2\n', /\.csv:2: no field "text"; got fields "a", "b"/],
  'a row with more columns': ['.csv', 'text,b\nx,1,2\n', /\.csv:2: wrong number of columns; got 3, expected 2/],
  'a quote that is never closed': ['.csv', 'text\n"abc\n', /\.csv:2: a quoted field is never closed/],
  'a Parquet file that is none': ['.parquet', 'junk', /not a readable Parquet file/],
  'an empty Parquet file': ['.parquet', '', /not a readable Parquet file/],
};

for (const [name, [extension, content, message, fields = {}, code = 'format']] of Object.entries(cases)) {
  test.serial(`refused: ${name}`, async (t) => {
    writeFileSync(`${path}${extension}`, content);
    const source = { path: `${path}${extension}`, ...fields } as DataSource;
    const error = await t.throwsAsync(loadDataset(source, await tokenizer, { sequence: 64 }), { code });
    t.regex(error?.message ?? '', message);
  });
}
