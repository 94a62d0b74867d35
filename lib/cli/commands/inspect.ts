import type { Command } from 'commander';
import { z } from 'zod';
import { command, runCommand } from '../command.js';
import { type Inspection, inspectPath } from '../inspect-path.js';
import { formatBytes, formatCount, type OutputOptions } from '../output.js';
import { runOutput } from '../run-output.js';

interface Options extends OutputOptions {
  readonly path: string;
}

/** What `--json` prints. */
export const inspectOutput = z.strictObject({
  kind: z.enum(['model folder', 'gguf file', 'adapter folder', 'safetensors file', 'run folder']),
  path: z.string(),
  parameters: z.int(),
  bytes: z.int().describe('bytes of all tensors as they are stored'),
  dtypes: z.record(z.string(), z.int()).describe('parameters by dtype'),
  names: z.array(z.string()).describe('names of the tensors'),
  shapes: z.record(z.string(), z.array(z.int())).describe('shapes by name'),
  config: z.record(z.string(), z.unknown()).describe('the config, or the metadata of a file'),
  problems: z.array(z.string()).describe('what is wrong with it; empty where nothing is'),
  run: runOutput
    .extend({ checkpoints: z.array(z.int()).describe('steps of the checkpoints'), locked: z.boolean().describe('a lock file is there') })
    .optional()
    .describe('of a run folder'),
});

export function inspectCommand(): Command {
  return command(
    'inspect',
    'Say what a model folder, .gguf file, adapter folder, .safetensors file or run folder holds.',
    'lorikeet inspect runs/notes/adapter',
  )
    .argument('<path>', 'file or folder')
    .action((path: string, options: OutputOptions) =>
      runCommand<Options>({ ...options, path }, async (_, { output }) => {
        const found = await inspectPath(path);
        output.result({ ...found }, describe(found));
      }),
    );
}

/** Tensors listed for people; `--json` holds all of them. */
const kListed = 40;

function describe({ kind, path, parameters, bytes, dtypes, names, shapes, config, problems, run }: Inspection): string {
  const lines = [`${path}: ${kind}`];
  if (names.length > 0) {
    const parts = Object.entries(dtypes).map(([dtype, count]) => `${dtype} ${formatCount(count)}`);
    lines.push(
      `parameters ${formatCount(parameters)} (${parameters}) in ${names.length} tensors, ${formatBytes(bytes)}: ${parts.join(', ')}`,
    );
  }
  for (const [key, value] of Object.entries(run ?? {})) lines.push(`${key} ${JSON.stringify(value)}`);
  const shown = Object.entries(config).filter(
    ([, value]) => value !== null && (typeof value !== 'object' || JSON.stringify(value).length < 100),
  );
  if (shown.length > 0) lines.push('config', ...shown.map(([key, value]) => `  ${key}: ${JSON.stringify(value)?.slice(0, 120)}`));
  if (names.length > 0) lines.push('tensors', ...names.slice(0, kListed).map((name) => `  ${name} [${shapes[name]?.join(', ')}]`));
  if (names.length > kListed) lines.push(`  and ${names.length - kListed} more (--json lists all)`);
  lines.push(problems.length === 0 ? 'no problems found' : 'problems', ...problems.map((problem) => `  ${problem}`));
  return lines.join('\n');
}
