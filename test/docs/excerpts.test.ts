import { readdirSync, readFileSync } from 'node:fs';
import test from 'ava';

// Code blocks of the docs that name a file (```cpp title="path") must stand in that file as they are.

const pages = readdirSync('docs', { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.md'));

for (const page of pages) {
  const text = readFileSync(`docs/${page}`, 'utf8');
  const blocks = [...text.matchAll(/^```\w+ title="([^"]+)"\n([\s\S]*?)^```$/gm)];
  if (blocks.length === 0) continue;
  test(`docs/${page} quotes its sources exactly`, (t) => {
    for (const [, file = '', code = ''] of blocks) {
      t.true(readFileSync(file, 'utf8').includes(code.trimEnd()), `a block of ${file} has drifted:\n${code}`);
    }
  });
}
