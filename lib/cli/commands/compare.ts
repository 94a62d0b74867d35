import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { z } from 'zod';
import { ConfigError } from '../../errors.js';
import { formatBytes, formatCount, formatSeconds } from '../../format.js';
import { writeFileAtomically } from '../../io/atomic-file.js';
import {
  bestMeasure,
  labelRuns,
  type NamedRun,
  type RunData,
  type RunSummary,
  readRun,
  recipeDifferences,
  renderComparePage,
  summarize,
} from '../../report/index.js';
import type { BestState } from '../../train/run.js';
import { command, runCommand } from '../command.js';
import type { OutputOptions } from '../output.js';
import { runOutput } from '../run-output.js';

interface Options extends OutputOptions {
  readonly runs: readonly string[];
  readonly out: string;
}

/** What `--json` prints. */
export const compareOutput = z.strictObject({
  out: z.string().describe('the page'),
  runs: z.array(runOutput.extend({ run: z.string().describe('path'), label: z.string() })),
  differences: z
    .array(
      z.strictObject({
        key: z.string().describe('dotted path'),
        values: z.array(z.unknown()).describe('one a run, null where it is missing'),
      }),
    )
    .describe('keys in which the recipes differ'),
});

export function compareCommand(): Command {
  return command(
    'compare',
    'Lay the curves of several runs over each other in one page, with a table of their final numbers.',
    'lorikeet compare runs/rank8 runs/rank16 --out ranks.html',
  )
    .argument('<run...>', 'run folders')
    .option('--out <file>', 'the page', 'compare.html')
    .action((runs: string[], options: Omit<Options, 'runs'>) =>
      runCommand<Options>({ ...options, runs }, async ({ out }, { output }) => {
        const named = labelRuns([...new Set(runs)].map(openRun));
        if (statSync(out, { throwIfNoEntry: false })?.isDirectory())
          throw new ConfigError(`compare: --out is a folder; got "${out}", expected a file`);
        await writeFileAtomically(out, renderComparePage(named));
        const summaries = named.map(({ label, run }) => ({ run: run.path, label, ...summarize(run) }));
        const differences = recipeDifferences(named.map(({ run }) => run.recipe)).map(({ key, values }) => ({
          key,
          values: values.map((value) => value ?? null),
        }));
        for (const { label, run } of named) for (const problem of run.problems) output.message(`${label}: ${problem}`);
        const value = { out, runs: summaries, differences } satisfies z.input<typeof compareOutput>;
        output.result(value, `${textTable(named)}\npage in ${out}`);
      }),
    );
}

function openRun(path: string): NamedRun['run'] {
  if (!existsSync(path)) throw new ConfigError(`compare: there is nothing at "${path}"; expected a run folder`);
  if (!existsSync(join(path, 'metrics.jsonl'))) throw new ConfigError(`compare: "${path}" is no run folder; expected metrics.jsonl in it`);
  return readRun(path);
}

const kColumns: readonly (readonly [title: string, read: (summary: RunSummary, run: RunData) => string | undefined])[] = [
  ['state', ({ status }) => status],
  ['steps', ({ steps }) => String(steps)],
  ['loss', ({ loss }) => loss?.toFixed(4)],
  ['held-out', ({ evalLoss }) => evalLoss?.toFixed(4)],
  ['best', ({ best }, run) => best && bestText(run, best)],
  ['tokens/s', ({ tokensPerSecond }) => formatCount(tokensPerSecond)],
  ['time', ({ seconds }) => formatSeconds(seconds)],
  ['peak memory', ({ peakBytes }) => (peakBytes === undefined ? undefined : formatBytes(peakBytes))],
  ['trainable', ({ trainableParameters }) => (trainableParameters === undefined ? undefined : formatCount(trainableParameters))],
];

function bestText(run: RunData, best: BestState): string {
  const { name, value } = bestMeasure(run, best);
  return `${name === 'loss' ? '' : `${name} `}${value.toFixed(4)} at ${best.step}`;
}

function textTable(runs: readonly NamedRun[]): string {
  const rows = [
    ['run', ...kColumns.map(([title]) => title)],
    ...runs.map(({ label, run }) => {
      const summary = summarize(run);
      return [label, ...kColumns.map(([, read]) => read(summary, run) ?? '-')];
    }),
  ];
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? [];
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
