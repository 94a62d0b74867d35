// npm run check:package: packs, installs the tarball in an empty folder without scripts and without a compiler in sight, and uses it: ESM import, require,
// a CommonJS and an ES-module TypeScript consumer, training, the command line; then publint and attw. Needs a prebuilt addon (npm run prebuild).
// --source also takes the prebuilt addon away and compiles from the tarball with node-gyp (minutes).
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { binaryProblems, describeBinary, expectedKernels } from './binary.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const prebuilds = join(root, 'prebuilds', `${process.platform}-${process.arch}`);
const sizeLimit = 60e6;

/** What may be in the tarball, and what must be. */
const allowed =
  /^(dist\/.*\.(js|d\.ts)(\.map)?|lib\/.*\.ts|prebuilds\/[a-z0-9]+-[a-z0-9]+\/lorikeet.*\.node|native\/(core|ops|algo|cpu|cuda|binding)\/[a-z0-9-]+\.(h|cc|cu|cuh)|native\/link\/[a-z0-9-]+\.(map|options)|cmake\/[a-z]+\.cmake|CMakeLists\.txt|binding\.gyp|scripts\/gyp-[a-z]+\.cjs|README\.md|CHANGELOG\.md|LICENSE|package\.json)$/;
const required = [
  'dist/index.js',
  'dist/index.d.ts',
  'native/core/tensor.h',
  'CMakeLists.txt',
  'binding.gyp',
  'README.md',
  'LICENSE',
  'package.json',
];

const problems = [];
function step(title, action) {
  try {
    const note = action();
    console.log(`ok  ${title}${typeof note === 'string' ? `: ${note}` : ''}`);
  } catch (error) {
    problems.push(title);
    console.log(`BAD ${title}`);
    console.log([error.stdout, error.stderr, error.stdout === undefined ? error.message : ''].filter(Boolean).join('\n').trim());
  }
}
const expect = (condition, message) => {
  if (!condition) throw new Error(message);
};

if (!existsSync(prebuilds) || !readdirSync(prebuilds).some((name) => name.endsWith('.node'))) {
  console.error(`check:package: no addon in ${prebuilds}; run npm run prebuild first`);
  process.exit(1);
}

const work = mkdtempSync(join(tmpdir(), 'lorikeet-package-'));
const project = join(work, 'project');
const bin = join(work, 'bin');
mkdirSync(project);
mkdirSync(bin);
// A machine without a compiler: only Node, npm and a shell on the PATH.
for (const tool of ['node', 'npm', 'sh', 'env']) {
  const path = tool === 'node' ? process.execPath : execFileSync('sh', ['-c', `command -v ${tool}`], { encoding: 'utf8' }).trim();
  symlinkSync(path, join(bin, tool));
}
const clean = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(npm_|NODE_PATH$|LORIKEET_)/i.test(name)));
const bare = { ...clean, PATH: bin };

const run = (command, args, options = {}) =>
  execFileSync(command, args, { cwd: project, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], env: bare, ...options });
const repository = (command, args) => run(command, args, { cwd: root, env: process.env });

let tarball = '';
step('build', () => {
  rmSync(join(root, 'dist'), { recursive: true, force: true });
  repository('npm', ['run', '--silent', 'build:types']);
  repository('npm', ['run', '--silent', 'build:ts']);
});
step('npm pack', () => {
  const [{ filename, files, size }] = JSON.parse(repository('npm', ['pack', '--json', '--loglevel=error', '--pack-destination', work]));
  tarball = join(work, filename);
  const paths = files.map(({ path }) => path);
  const strange = paths.filter((path) => !allowed.test(path));
  expect(strange.length === 0, `files that do not belong in the package: ${strange.join(', ')}`);
  const missing = required.filter((path) => !paths.includes(path));
  expect(missing.length === 0, `missing from the package: ${missing.join(', ')}`);
  expect(size < sizeLimit, `the tarball is ${size} bytes, expected less than ${sizeLimit}`);
  return `${files.length} files, ${(size / 1e6).toFixed(1)} MB`;
});
step('npm install --ignore-scripts without a compiler', () => {
  writeFileSync(join(project, 'package.json'), JSON.stringify({ name: 'consumer', private: true, type: 'module' }));
  run('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error', tarball]);
});

const program = `import { memory, scope } from 'lorikeet';
import { matmul, tensor } from 'lorikeet/ops';
import { qr } from 'lorikeet/linalg';

await scope(async () => {
  const product = matmul(tensor([[1, 2], [3, 4]]), tensor([[5, 6], [7, 8]]));
  const { r } = qr(tensor([[3, 1], [4, 2]], { dtype: 'f64' }));
  console.log(JSON.stringify([[...(await product.data())], Math.abs(Number((await r.data())[0]))]));
});
if (memory().tensors !== 0) throw new Error('tensors were left');
`;
const answer = '[[19,22,43,50],5]';
step('ESM import and ops', () => {
  writeFileSync(join(project, 'program.mjs'), program);
  const output = run('node', ['program.mjs']).trim();
  expect(output.replace('4.999999999999999', '5') === answer || output === answer, `got ${output}, expected ${answer}`);
});
step('require() of the ES module', () => {
  run('node', ['-e', "const { Tensor } = require('lorikeet'); if (typeof Tensor !== 'function') process.exit(1)"]);
});
const training = `import { attach, generate, loadModel, train } from 'lorikeet';

const [, , folder = '', path = ''] = process.argv;
const model = await loadModel(folder);
const tuned = await attach(model, { type: 'lora', rank: 4, targets: 'all-linear' });
const result = await train(tuned, { data: { train: { path } }, training: { steps: 2, batch: 2, sequence: 64, learningRate: 1e-3 } });
await tuned.save('adapter');
const text = await generate(tuned, 'Once upon a time', { maxNewTokens: 5 }).text();
console.log(JSON.stringify({ finite: Number.isFinite(result.loss), written: text.length > 0 }));
model.dispose();
`;
step('training, saving and generating', () => {
  writeFileSync(join(project, 'training.mjs'), training);
  const output = run('node', ['training.mjs', join(root, 'examples/stories260k'), join(root, 'examples/shakespeare/dev.jsonl')]).trim();
  expect(output === '{"finite":true,"written":true}', `got ${output}`);
  expect(existsSync(join(project, 'adapter', 'adapter_model.safetensors')), 'no adapter_model.safetensors was saved');
});
step('installing with scripts compiles nothing', () => {
  run('npm', ['rebuild', '--loglevel=error']);
  expect(!existsSync(join(project, 'node_modules', 'lorikeet', 'build')), 'a build folder appeared although a prebuilt addon is there');
});
step('command line', () => {
  const output = run('node', ['node_modules/lorikeet/dist/cli/main.js', '--help']);
  expect(output.includes('lorikeet'), `no help text; got ${output}`);
});
/** What must compile, and, marked by the comment, what must not. */
const typed = `${program}
import { attach, type Model } from 'lorikeet';

export function misuse(model: Model): unknown {
  // @ts-expect-error a wrong option of a method
  return attach(model, { type: 'lora', ranks: 4 });
}
`;
for (const [name, module, moduleResolution, file] of [
  ['nodenext', 'nodenext', 'nodenext', 'consumer.ts'],
  ['bundler', 'esnext', 'bundler', 'consumer.ts'],
  ['nodenext CommonJS', 'nodenext', 'nodenext', 'consumer.cts'],
]) {
  step(`TypeScript consumer, ${name}`, () => {
    const source = file.endsWith('.cts') ? typed.replace(/^await scope/m, 'void scope') : typed;
    writeFileSync(join(project, file), source);
    const options = {
      target: 'es2022',
      lib: ['es2023', 'esnext.disposable'],
      module,
      moduleResolution,
      strict: true,
      noEmit: true,
      types: ['node'],
    };
    writeFileSync(
      join(project, 'tsconfig.json'),
      JSON.stringify({ compilerOptions: { ...options, typeRoots: [join(root, 'node_modules/@types')] }, files: [file] }),
    );
    run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', 'tsconfig.json'], { env: clean });
  });
}
step('publint', () => {
  repository(process.execPath, ['node_modules/publint/src/cli.js', 'run', tarball, '--strict']);
});
step('attw', () => {
  repository(process.execPath, ['node_modules/@arethetypeswrong/cli/dist/index.js', tarball, '--profile', 'esm-only', '--format', 'ascii']);
});
if (process.argv.includes('--source')) {
  step('compiling from the tarball with node-gyp', () => {
    const installed = join(project, 'node_modules', 'lorikeet');
    rmSync(join(installed, 'prebuilds'), { recursive: true });
    // Under the PATH of this machine: node-gyp-build finds no addon and calls npm's node-gyp.
    run('npm', ['rebuild', '--foreground-scripts', '--ignore-scripts=false', '--loglevel=error'], { env: clean, maxBuffer: 1 << 26 });
    expect(existsSync(join(installed, 'build', 'Release', 'lorikeet.node')), 'node-gyp built no addon');
    const facts = describeBinary(join(installed, 'build', 'Release', 'lorikeet.node'));
    const kernels = expectedKernels(root, process.arch === 'x64' ? 4 : 1);
    const bad = binaryProblems(facts, kernels);
    expect(bad.length === 0, bad.join('; '));
    expect(run('node', ['program.mjs']).startsWith('[[19,22,43,50],'), 'the addon built by node-gyp computes something else');
  });
}

rmSync(work, { recursive: true, force: true });
console.log(problems.length === 0 ? 'check:package: clean' : `check:package: failed: ${problems.join(', ')}`);
process.exit(problems.length === 0 ? 0 : 1);
