import { spawn } from 'node:child_process';
import test from 'ava';

// How the engine behaves when its process or worker ends while it computes. Each case is a child process, so that a crash would show as a signal.

interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly output: string;
}

/** Queues about ten seconds of work in one environment. */
const busy = `
import { zeros, exp } from 'lorikeet/ops';
const x = zeros([4_000_000]);
let y = x;
for (let i = 0; i < 3000; i++) { const next = exp(y); if (y !== x) y.dispose(); y = next; }
`;

function run(script: string): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], { cwd: process.cwd() });
    let output = '';
    child.stdout.on('data', (data) => (output += data));
    child.stderr.on('data', (data) => (output += data));
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ code, signal, output }));
  });
}

test('process.exit in the middle of work ends at once', async (t) => {
  const { code, signal, output } = await run(`${busy}
const start = performance.now();
process.on('exit', () => console.log('left', Math.round(performance.now() - start)));
process.exit(7);`);
  t.is(signal, null, output);
  t.is(code, 7, output);
});

test('an uncaught exception in the middle of work is an ordinary failure', async (t) => {
  const { code, signal, output } = await run(`${busy} throw new Error('on purpose');`);
  t.is(signal, null, output);
  t.is(code, 1, output);
  t.true(output.includes('on purpose'));
});

test('a process ends by itself when nothing is awaited, and waits for what is', async (t) => {
  const idle = await run(`import { zeros } from 'lorikeet/ops'; zeros([10]); console.log('end');`);
  t.deepEqual([idle.code, idle.signal, idle.output], [0, null, 'end\n']);
  const waited = await run(
    `import { ones, exp } from 'lorikeet/ops'; exp(ones([2_000_000])).data().then((d) => console.log('read', d.length));`,
  );
  t.deepEqual([waited.code, waited.signal, waited.output], [0, null, 'read 2000000\n']);
});

// Their module does not await: V8 itself aborts where a thread ends while a module that does is evaluated.
test('workers can be terminated at any moment, several at once', async (t) => {
  const { code, signal, output } = await run(`
import { Worker } from 'node:worker_threads';
const source = ${JSON.stringify(`${busy.replaceAll("'lorikeet/ops'", 'OPS')}\ny.data();`)};
const url = import.meta.resolve('lorikeet/ops');
const code = source.replaceAll('OPS', JSON.stringify(url));
const slowest = [];
for (let round = 0; round < 12; round++) {
  const workers = [0, 1].map(() => new Worker(new URL('data:text/javascript,' + encodeURIComponent(code))));
  await new Promise((done) => setTimeout(done, round * 60));
  const start = performance.now();
  await Promise.all(workers.map((worker) => worker.terminate()));
  slowest.push(performance.now() - start);
}
const { ones, sum } = await import(url);
console.log('main still computes', await sum(ones([1000])).item(), Math.max(...slowest) < 2000 ? 'quick' : 'slow ' + slowest);`);
  t.is(signal, null, output);
  t.is(code, 0, output);
  t.is(output, 'main still computes 1000 quick\n');
});

test('a worker ends by itself with results delivered, beside the main thread', async (t) => {
  const { code, signal, output } = await run(`
import { Worker } from 'node:worker_threads';
const url = import.meta.resolve('lorikeet/ops');
const code = 'import { parentPort } from "node:worker_threads"; import { ones, sum } from ' + JSON.stringify(url) + '; parentPort.postMessage(await sum(ones([5000])).item());';
const { ones, sum } = await import(url);
const answers = [1, 2, 3].map(() => new Promise((resolve, reject) => {
  const worker = new Worker(new URL('data:text/javascript,' + encodeURIComponent(code)));
  let answer;
  worker.on('message', (message) => { answer = message; });
  worker.on('error', reject);
  worker.on('exit', () => resolve(answer));
}));
console.log(await sum(ones([7000])).item(), ...(await Promise.all(answers)));`);
  t.is(signal, null, output);
  t.is(code, 0, output);
  t.is(output, '7000 5000 5000 5000\n');
});

test('a hook that throws rejects nothing else and leaves the engine usable', async (t) => {
  const { code, signal, output } = await run(`
import { ones, sum, square } from 'lorikeet/ops';
const x = ones([3]).setRequiresGrad(true);
x.onGrad(() => { throw new RangeError('hook'); });
try { sum(square(x)).backward(); } catch (error) { console.log(error.name, error.message); }
x.onGrad();
sum(square(x)).backward();
console.log(...(await x.grad.data()));`);
  t.is(signal, null, output);
  t.is(code, 0, output);
  t.is(output, 'RangeError hook\n2 2 2\n');
});
