import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import test from 'ava';
import { goldenFolder } from '../helpers/folders.js';

const file = join(goldenFolder, 'gguf', 'tiny-llama.gguf');

/** Runs a module in a process of its own and returns what it printed; fails when it does not end by itself. */
const run = (code: string): string =>
  execFileSync(process.execPath, ['--input-type=module', '-e', code], { encoding: 'utf8', timeout: 60_000 });

test('a tokenizer does not keep its process alive', (t) => {
  const printed = run(`
    import { Tokenizer } from 'lorikeet/io';
    const tokenizer = Tokenizer.fromGguf(${JSON.stringify(file)});
    console.log(tokenizer.decode(tokenizer.encode('still here')));
  `);
  t.is(printed, 'still here\n');
});

test('each thread has its own, and may end in the middle', (t) => {
  const code = `import { parentPort } from 'node:worker_threads'; import { Tokenizer } from ${JSON.stringify(import.meta.resolve('lorikeet/io'))};
    const tokenizer = Tokenizer.fromGguf(${JSON.stringify(file)});`;
  const once = `${code} parentPort.postMessage(tokenizer.decode(tokenizer.encode('inner')));`;
  const endless = `${code} parentPort.postMessage('started'); for (;;) tokenizer.encode('again');`;
  const printed = run(`
    import { Worker } from 'node:worker_threads';
    import { Tokenizer } from 'lorikeet/io';
    const start = async (code) => {
      const worker = new Worker(new URL('data:text/javascript,' + encodeURIComponent(code)));
      const message = await new Promise((resolve, reject) => worker.on('message', resolve).on('error', reject));
      await worker.terminate();
      return message;
    };
    const messages = [await start(${JSON.stringify(once)}), await start(${JSON.stringify(endless)})];
    const tokenizer = Tokenizer.fromGguf(${JSON.stringify(file)});
    console.log(...messages, tokenizer.decode(tokenizer.encode('outer')));
  `);
  t.is(printed, 'inner started outer\n');
});
