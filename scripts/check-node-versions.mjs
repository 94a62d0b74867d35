// npm run check:node-versions [-- 20.19.0 22 24] [--tests GLOB...]: runs the compiled tests with other versions of Node on the one built addon.
// The npm package `node` brings the binaries. Build first (npm test).
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

process.chdir(dirname(dirname(fileURLToPath(import.meta.url))));

const args = process.argv.slice(2);
const split = args.indexOf('--tests');
const versions = (split < 0 ? args : args.slice(0, split)).length > 0 ? (split < 0 ? args : args.slice(0, split)) : ['20.19.0', '22', '24'];
const tests = split < 0 ? ['out/test/**/*.test.js'] : args.slice(split + 1);
const addon = process.env.LORIKEET_NATIVE_PATH ?? 'build/Release/lorikeet.node';
if (!existsSync(addon) || !existsSync('out/test')) {
  console.error(`check-node-versions: ${addon} or out/test is missing; run npm test first`);
  process.exit(1);
}

const failures = [];
for (const version of versions) {
  const folder = mkdtempSync(join(tmpdir(), 'lorikeet-node-'));
  writeFileSync(join(folder, 'package.json'), '{"private":true}');
  // The platform package holds the binary itself, so no install script has to run.
  const name = `node-${process.platform}-${process.arch}`;
  execFileSync('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error', `${name}@${version}`], {
    cwd: folder,
    stdio: 'inherit',
  });
  const node = join(folder, 'node_modules', name, 'bin', 'node');
  const actual = execFileSync(node, ['-p', 'process.version + ", Node-API " + process.versions.napi'], { encoding: 'utf8' }).trim();
  console.log(`Node ${actual}`);
  const { status } = spawnSync(node, ['node_modules/ava/entrypoints/cli.mjs', ...tests], { stdio: ['ignore', 'inherit', 'inherit'] });
  if (status !== 0) failures.push(actual);
  rmSync(folder, { recursive: true, force: true });
}
console.log(failures.length === 0 ? 'check-node-versions: all passed' : `check-node-versions: failed on ${failures.join('; ')}`);
process.exit(failures.length === 0 ? 0 : 1);
