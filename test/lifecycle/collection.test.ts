import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import test from 'ava';

// What the garbage collector is told of native memory. Each case is a process of its own, with a heap of its own.

const prelude = `
import { PerformanceObserver, constants } from 'node:perf_hooks';
import { memory, scope } from 'lorikeet';
import { zeros } from 'lorikeet/ops';
let collections = 0;
const observer = new PerformanceObserver((list) => {
  collections += list.getEntries().filter((entry) => entry.detail.kind === constants.NODE_PERFORMANCE_GC_MAJOR).length;
});
observer.observe({ entryTypes: ['gc'] });
const turn = () => new Promise((resolve) => setTimeout(resolve, 5));
const size = [2 ** 21];
`;

async function run(script: string): Promise<unknown> {
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', prelude + script]);
  return JSON.parse(stdout);
}

test('tensors that a scope will release do not make the garbage collector run', async (t) => {
  const { collections, tensors } = (await run(`
await turn();
const before = collections;
await scope(async () => {
  for (let i = 0; i < 32; i++) { zeros(size); await turn(); }
});
await turn();
console.log(JSON.stringify({ collections: collections - before, tensors: memory().tensors }));`)) as {
    collections: number;
    tensors: number;
  };
  t.is(tensors, 0);
  t.true(collections <= 1, `${collections} collections`);
});

for (const [what, make] of [
  ['dropped outside scopes', 'zeros(size)'],
  ['dropped after they left a scope', 'scope(() => zeros(size))'],
  ['dropped after they were kept', 'scope(() => { keep(zeros(size)); })'],
] as const) {
  test(`tensors ${what} are collected`, async (t) => {
    const { most } = (await run(`
import { keep } from 'lorikeet';
let most = 0;
for (let i = 0; i < 100; i++) {
  ${make};
  await turn();
  most = Math.max(most, memory().tensors);
}
console.log(JSON.stringify({ most }));`)) as { most: number };
    t.true(most < 60, `${most} of 100 tensors were there at once`);
  });
}
