// npm run build:cuda: compiles native/cuda/*.cu to build/Release/lorikeet_cuda.so. Needs nvcc (CUDA toolkit 12.4 or newer); no GPU and no driver.
// Environment: CUDACXX or CUDA_HOME say where nvcc is; LORIKEET_CUDA_ARCHITECTURES replaces the list of architectures (CMake syntax).
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

process.chdir(dirname(dirname(fileURLToPath(import.meta.url))));

const home = process.env.CUDA_HOME ?? process.env.CUDA_PATH;
const candidates = [process.env.CUDACXX, home && join(home, 'bin', 'nvcc'), 'nvcc', '/usr/local/cuda/bin/nvcc'].filter(Boolean);
const nvcc = candidates.find((path) => (path.includes('/') ? existsSync(path) : spawnSync(path, ['--version']).status === 0));
if (!nvcc) {
  console.error(`build:cuda: nvcc is missing; looked for ${candidates.join(', ')}; install the CUDA toolkit or set CUDACXX to its nvcc`);
  process.exit(1);
}
const version = /release (\d+\.\d+)/.exec(spawnSync(nvcc, ['--version'], { encoding: 'utf8' }).stdout ?? '')?.[1] ?? 'unknown version';
console.log(`build:cuda: ${nvcc}, ${version}`);

const architectures = process.env.LORIKEET_CUDA_ARCHITECTURES;
const configure = ['-S', '.', '-B', 'build/cuda', '-G', 'Ninja', '-DLORIKEET_CUDA=ON', `-DCMAKE_CUDA_COMPILER=${nvcc}`];
if (architectures) configure.push(`-DCMAKE_CUDA_ARCHITECTURES=${architectures}`);
for (const args of [configure, ['--build', 'build/cuda', '--target', 'lorikeet_cuda']]) {
  const { status } = spawnSync('cmake', args, { stdio: ['ignore', 'inherit', 'inherit'] });
  if (status !== 0) process.exit(status ?? 1);
}
