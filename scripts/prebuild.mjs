// npm run prebuild: a clean Release build, stripped, checked and put where node-gyp-build looks: prebuilds/<platform>-<arch>/lorikeet[.glibc].node.
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { binaryProblems, describeBinary, expectedKernels } from './binary.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
process.chdir(root);
const { platform, arch } = process;
const linux = platform === 'linux';
const levels = arch === 'x64' ? 4 : 1;
const libc = linux ? (process.report.getReport().header.glibcVersionRuntime ? '.glibc' : '.musl') : '';
const folder = join('prebuilds', `${platform}-${arch}`);
const target = join(folder, `lorikeet${libc}.node`);
const build = 'build-prebuild';
const quiet = { stdio: ['ignore', 'ignore', 'inherit'] };

rmSync(build, { recursive: true, force: true });
console.log(`prebuild: compiling for ${platform}-${arch}`);
execFileSync('node', ['node_modules/cmake-js/bin/cmake-js', 'compile', '-O', build, '-G', 'Ninja'], {
  stdio: ['ignore', 'inherit', 'inherit'],
});

mkdirSync(folder, { recursive: true });
for (const name of ['lorikeet.node', 'lorikeet.glibc.node', 'lorikeet.musl.node']) rmSync(join(folder, name), { force: true });
copyFileSync(join(build, 'Release', 'lorikeet.node'), target);
execFileSync('strip', [linux ? '--strip-unneeded' : '-x', target], quiet);

if (linux) {
  const facts = describeBinary(target);
  console.log(
    `prebuild: ${target}, ${(facts.bytes / 1e6).toFixed(1)} MB, glibc ${facts.glibc} or newer, needs ${facts.libraries.join(' ')}, ${facts.kernels} kernels`,
  );
  const problems = binaryProblems(facts, expectedKernels(root, levels));
  for (const problem of problems) console.error(`prebuild: ${target} ${problem}`);
  if (problems.length > 0) process.exit(1);
}
const report = `const { ops } = require(${JSON.stringify(join(root, target))}); console.log('prebuild: loads, level ' + ops.isaLevel());`;
execFileSync(process.execPath, ['-e', report], { stdio: 'inherit' });
rmSync(build, { recursive: true, force: true });
