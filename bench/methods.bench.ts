// Adapter methods beside each other and beside reference means, on real data.
// npm run bench -- methods [--experiments pissa,lora-ga,corda,eva,lora-sb,lora-plus,retention,mosa,hydra,binary,routing,petl-ast]
//   [--seeds 1,2,3,4,5] [--steps N] [--json]
//   --steps is of MoSA (default 2500) and of petl-ast, where it can only be fewer than the usual.
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Report, Suite } from './harness.js';
import { runBinary } from './methods/binary.js';
import { digitsExperiments, runDigits } from './methods/digits.js';
import { runHydra } from './methods/hydra.js';
import { runMosa } from './methods/mosa.js';
import { runPetlAst } from './methods/petl-ast.js';
import { runRetention } from './methods/retention.js';
import { runRouting } from './methods/routing.js';

const data = process.env.LORIKEET_DATA ?? '../shared/data';

interface Setting {
  readonly seeds: readonly number[];
  readonly steps: number | undefined;
  /** The digits. */
  readonly folder: string;
  readonly report: Report;
}

/** The experiments that are a run of their own, beside those that share the digits MLP. */
const single = {
  retention: ({ seeds, folder, report }) => runRetention(seeds, folder, report),
  mosa: ({ seeds, steps, folder, report }) => runMosa(seeds, steps ?? 2500, folder, report),
  hydra: ({ seeds, folder, report }) => runHydra(seeds, folder, report),
  binary: ({ seeds, folder, report }) => runBinary(seeds, folder, report),
  routing: ({ seeds, folder, report }) => runRouting(seeds, folder, report),
  'petl-ast': ({ seeds, steps, report }) => runPetlAst(seeds, join(data, 'fsdd'), report, steps),
} as const satisfies Record<string, (setting: Setting) => Promise<object>>;

const flags = {
  experiments: { type: 'string', default: [...digitsExperiments, ...Object.keys(single)].join() },
  seeds: { type: 'string', default: '1,2,3,4,5' },
  steps: { type: 'string' },
} as const;

async function run(args: readonly string[], report: Report): Promise<object> {
  const { values } = parseArgs({ args: [...args], options: flags });
  const names = values.experiments.split(',');
  const seeds = values.seeds.split(',').map(Number);
  const steps = values.steps === undefined ? undefined : Number(values.steps);
  const folder = join(data, 'digits');
  const digits = await runDigits(
    names.filter((name) => !Object.hasOwn(single, name)),
    seeds,
    folder,
    report,
  );
  const results: Record<string, object> = { digits };
  for (const [name, runOne] of Object.entries(single)) {
    if (names.includes(name)) results[name] = await runOne({ seeds, steps, folder, report });
  }
  return results;
}

export const suite: Suite = {
  description: 'how fast adapter methods learn, and what they forget (digits)',
  run,
};
