// npm test after the bootstrap: builds everything, then runs the native tests and the suites; ends with `N passed, N failed[, N skipped]`.
// Arguments are given to ava in place of the whole of out/test (e.g. npm test -- out/test/ops).
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { availableParallelism, cpus } from 'node:os';
import { dirname, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
process.chdir(root);
const data = resolve(process.env.LORIKEET_DATA ?? '../shared/data');
const env = { ...process.env, LORIKEET_DATA: data };
const totals = { passed: 0, failed: 0, skipped: 0 };
const started = performance.now();

const seconds = (since) => ((performance.now() - since) / 1000).toFixed(1);

/** Runs a command; every line of its standard output goes to `onLine` (default: printed). Resolves to the exit code, 128 for a signal. */
function run(command, args, onLine = console.log) {
  return new Promise((done) => {
    const child = spawn(command, args, { env, stdio: ['ignore', 'pipe', 'inherit'] });
    const lines = createInterface({ input: child.stdout });
    lines.on('line', onLine);
    child.on('error', (error) => {
      console.error(`${command}: ${error.message}`);
      done(127);
    });
    child.on('close', (code, signal) => {
      if (signal) console.error(`${command}: ended by ${signal}`);
      done(code ?? 128);
    });
  });
}

function finish(code) {
  console.log(`\ntotal ${seconds(started)} s`);
  const skipped = totals.skipped ? `, ${totals.skipped} skipped` : '';
  console.log(`${totals.passed} passed, ${totals.failed} failed${skipped}`);
  process.exitCode = code;
}

/** A step that must succeed before anything can be tested. */
async function build(title, script) {
  const since = performance.now();
  const output = [];
  const code = await run('npm', ['run', '--silent', ...script], (line) => output.push(line));
  if (code === 0) {
    console.log(`${title.padEnd(24)} ${seconds(since)} s`);
    return true;
  }
  console.log(output.join('\n'));
  console.log(`${title} failed`);
  totals.failed++;
  return false;
}

async function buildAll() {
  return (
    (await build('native addon', ['build:native'])) &&
    (await build('native tests', ['build:native-tests'])) &&
    (await build('op types', ['build:types'])) &&
    (await build('library', ['build:ts'])) &&
    (await build('tests and examples', ['build:tests'])) &&
    (await build('generated files', ['check:generated']))
  );
}

async function nativeTests() {
  const since = performance.now();
  let failed = 0;
  const code = await run('build/native_tests', [], (line) => {
    if (line.startsWith('passed ')) totals.passed++;
    else {
      if (line.startsWith('FAILED ')) failed++;
      console.log(line);
    }
  });
  // A crash counts as one failure more than those it printed.
  totals.failed += failed + (code !== 0 && failed === 0 ? 1 : 0);
  console.log(`native suites            ${seconds(since)} s`);
}

/** Reads ava's TAP: counts results, shows failures with their details, and one line per finished hundred so that a log shows progress. */
async function suites(files) {
  const since = performance.now();
  let details = false;
  let reported = false;
  const code = await run('node', ['node_modules/ava/entrypoints/cli.mjs', '--tap', ...files], (line) => {
    const result = /^(not )?ok \d+ - (.*)$/.exec(line);
    if (result) {
      const [, not, title] = result;
      details = false;
      if (/ # (SKIP|TODO)/i.test(title)) {
        totals.skipped++;
        console.log(`  skipped: ${title}`);
      } else if (not) {
        totals.failed++;
        reported = details = true;
        console.log(`  FAILED: ${title}`);
      } else if (++totals.passed % 100 === 0) {
        console.log(`  ${totals.passed} passed after ${seconds(since)} s`);
      }
    } else if (line.startsWith('Bail out!')) {
      totals.failed++;
      reported = true;
      console.log(line);
    } else if (details || /^#\s+(\* |skipped)/.test(line)) {
      console.log(`  ${line}`);
    }
  });
  if (code !== 0 && !reported) totals.failed++;
  console.log(`suites                   ${seconds(since)} s`);
}

const cpu = cpus()[0]?.model.trim() ?? 'unknown CPU';
console.log(`${cpu}, ${availableParallelism()} CPUs, Node ${process.version}, data ${data}${existsSync(data) ? '' : ' (absent)'}`);
if (process.env.CI && !existsSync(data)) {
  console.log(`LORIKEET_DATA: the data folder is needed under CI; got ${data}, which does not exist`);
  totals.failed++;
  finish(1);
} else if (!(await buildAll())) {
  finish(1);
} else {
  const files = process.argv.slice(2);
  if (files.length === 0) await nativeTests();
  await suites(files);
  finish(totals.failed > 0 || totals.passed === 0 ? 1 : 0);
}
