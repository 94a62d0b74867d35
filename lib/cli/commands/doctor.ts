import { readdirSync, readFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import type { Command } from 'commander';
import { z } from 'zod';
import { kDtypeBytes } from '../../dtype.js';
import { availableMemory } from '../../estimate/available.js';
import { devices, isaLevel, scope, synchronize, threads } from '../../index.js';
import { op } from '../../native.js';
import { add, matmul, packWeight, uniform } from '../../ops/index.js';
import { type CommandContext, command, runCommand } from '../command.js';
import { formatBytes, type OutputOptions } from '../output.js';
import { profileRecipe } from '../profile-recipe.js';

/** What `--json` prints. */
export const doctorOutput = z.strictObject({
  node: z.string(),
  platform: z.string(),
  cpu: z.strictObject({
    model: z.string(),
    instructionSets: z.array(z.string()).describe('what of the extensions matters here'),
    threads: z.int().describe('threads that compute'),
    caches: z.array(z.strictObject({ level: z.int(), type: z.string(), bytes: z.int() })),
    memoryBytes: z.int().describe('memory of the machine'),
    availableBytes: z.int().describe('what this process can still take'),
  }),
  kernels: z.strictObject({
    level: z.string().describe('instruction level in force'),
    machineLevel: z.string().describe('highest level of this machine'),
    reason: z.string(),
    products: z
      .array(z.strictObject({ dtype: z.string(), level: z.string(), layout: z.string(), reason: z.string() }))
      .describe('kernel of products with frozen weights, by dtype'),
  }),
  gflops: z.strictObject({ f32: z.number(), bf16: z.number() }).describe('measured, products of 768 x 768'),
  gigabytesPerSecond: z.number().describe('measured, sum of two arrays'),
  devices: z.array(
    z.strictObject({ device: z.string(), available: z.boolean(), detail: z.string().describe('what it is, or why it cannot be used') }),
  ),
});

const machineIsaLevel = op('machineIsaLevel');

export function doctorCommand(): Command {
  return command('doctor', 'Say what this machine can do and how fast, and which kernels were chosen and why.', 'lorikeet doctor --json')
    .option('--profile <recipe>', 'say where a training step of this recipe goes, op by op, instead')
    .action((options: Options) => runCommand(options, run));
}

interface Options extends OutputOptions {
  readonly profile?: string;
}

interface Cache {
  readonly level: number;
  readonly type: string;
  readonly bytes: number;
}

/** Rows and columns of the weight that the engine is asked about. */
const kSide = 64;
const kKernelDtypes = ['f32', 'bf16', 'f16'] as const;

async function run({ profile }: Options, context: CommandContext): Promise<void> {
  const { output } = context;
  output.message('measuring (a few seconds)');
  const model = cpus()[0]?.model.trim() ?? 'unknown';
  const found = devices();
  const gflops = { f32: await measureProducts('f32'), bf16: await measureProducts('bf16') };
  const gigabytesPerSecond = await measureMemory();
  if (profile !== undefined) return profileRecipe(profile, { gflops, gigabytesPerSecond }, context);
  const limit = process.env.LORIKEET_MAX_ISA;
  const kernels = {
    level: isaLevel(),
    machineLevel: machineIsaLevel(),
    reason: limit === undefined ? 'the highest level that this CPU and operating system support' : `limited by LORIKEET_MAX_ISA=${limit}`,
    products: productKernels(),
  };
  const caches = readCaches();
  const result = {
    node: process.version,
    platform: `${process.platform}-${process.arch}`,
    cpu: {
      model,
      instructionSets: instructionSets(),
      threads: threads(),
      caches,
      memoryBytes: totalmem(),
      availableBytes: availableMemory(),
    },
    kernels,
    gflops,
    gigabytesPerSecond,
    devices: found,
  };
  const lines = [
    `CPU      ${model}, ${threads()} threads, ${formatBytes(totalmem())} memory, ${formatBytes(result.cpu.availableBytes)} available`,
    `caches   ${caches.map(({ level, type, bytes }) => `L${level}${type === 'Unified' ? '' : ` ${type.toLowerCase()}`} ${formatBytes(bytes)}`).join(', ') || 'unknown'}`,
    `sets     ${result.cpu.instructionSets.join(' ') || 'unknown'}`,
    `kernels  ${kernels.level} (${kernels.reason})`,
    ...kernels.products.map(({ dtype, level, reason }) => `  ${dtype.padEnd(6)} ${level}: ${reason}`),
    `measured ${gflops.f32.toFixed(1)} GFLOP/s f32, ${gflops.bf16.toFixed(1)} GFLOP/s bf16, ${gigabytesPerSecond.toFixed(1)} GB/s memory`,
    ...found.map(({ device, available, detail }) => `${device.padEnd(8)} ${available ? detail : `not available: ${detail}`}`),
  ];
  output.result(result satisfies z.output<typeof doctorOutput>, lines.join('\n'));
}

/** The kernel that a frozen weight of each dtype gets, asked of the engine itself. */
function productKernels(): z.output<typeof doctorOutput>['kernels']['products'] {
  return scope(() =>
    kKernelDtypes.map((dtype) => {
      using weight = packWeight(uniform([kSide, kSide], { dtype }));
      const { level, layout } = weight;
      const isOwn = weight.bytes <= kSide * kSide * kDtypeBytes[dtype];
      return { dtype, level, layout, reason: `${isOwn ? `kept as ${dtype}` : 'kept as f32'}, sums in f32` };
    }),
  );
}

/** Milliseconds that one measurement runs. */
const kMeasureTime = 400;

/** The fastest of repeated runs of `work`, in seconds. */
async function fastest(work: () => unknown): Promise<number> {
  let best = Number.POSITIVE_INFINITY;
  const end = performance.now() + kMeasureTime;
  for (let runs = 0; runs < 3 || performance.now() < end; runs++) {
    const start = performance.now();
    scope(() => void work());
    await synchronize();
    best = Math.min(best, performance.now() - start);
  }
  return best / 1000;
}

/** Products of square matrices, in 10^9 operations a second. */
function measureProducts(dtype: 'f32' | 'bf16'): Promise<number> {
  const size = 768;
  return scope(async () => {
    const a = uniform([size, size], { dtype, low: -1, seed: 1 });
    const b = uniform([size, size], { dtype, low: -1, seed: 2 });
    return (2 * size ** 3) / (await fastest(() => matmul(a, b))) / 1e9;
  });
}

/** A sum of two arrays much larger than the caches: two are read and one is written. */
function measureMemory(): Promise<number> {
  const length = 2 ** 24;
  return scope(async () => {
    const a = uniform([length], { seed: 1 });
    const b = uniform([length], { seed: 2 });
    return (3 * 4 * length) / (await fastest(() => add(a, b))) / 1e9;
  });
}

/** What of the x86 or Arm extensions matters here and the kernel reports. */
function instructionSets(): string[] {
  const known = [
    'sse4_2',
    'avx',
    'avx2',
    'fma',
    'f16c',
    'avx512f',
    'avx512bw',
    'avx512_bf16',
    'avx512_vnni',
    'avx512_fp16',
    'amx_tile',
    'amx_bf16',
    'amx_int8',
    'asimd',
    'asimdhp',
    'bf16',
    'i8mm',
    'sve',
  ];
  try {
    const flags = /^(?:flags|Features)\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1]?.trim().split(/\s+/) ?? [];
    return known.filter((name) => flags.includes(name));
  } catch {
    return [];
  }
}

function readCaches(): Cache[] {
  const folder = '/sys/devices/system/cpu/cpu0/cache';
  try {
    return readdirSync(folder)
      .filter((name) => name.startsWith('index'))
      .map((name) => {
        const read = (file: string) => readFileSync(`${folder}/${name}/${file}`, 'utf8').trim();
        const [, digits = '0', unit = ''] = /^(\d+)([KMG]?)/.exec(read('size')) ?? [];
        return {
          level: Number(read('level')),
          type: read('type'),
          bytes: Number(digits) * ({ K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 }[unit] ?? 1),
        };
      });
  } catch {
    return [];
  }
}
