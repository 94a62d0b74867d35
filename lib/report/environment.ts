import { readFileSync } from 'node:fs';
import { arch, availableParallelism, cpus, platform, release, totalmem } from 'node:os';
import { isaLevel, threads } from '../device.js';

/** What a run was made with. */
export interface RunEnvironment {
  readonly cpu: string;
  readonly logicalCpus: number;
  /** Instruction level of the kernels. */
  readonly isaLevel: string;
  /** Threads that compute. */
  readonly threads: number;
  /** Bytes of the machine. */
  readonly memoryBytes: number;
  readonly system: string;
  readonly node: string;
  readonly lorikeet: string;
}

export function runEnvironment(): RunEnvironment {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    logicalCpus: availableParallelism(),
    isaLevel: isaLevel(),
    threads: threads(),
    memoryBytes: totalmem(),
    system: `${platform()} ${release()} ${arch()}`,
    node: process.version,
    lorikeet: packageVersion(),
  };
}

function packageVersion(): string {
  return (JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }).version;
}
