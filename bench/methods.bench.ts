// Adapter methods beside each other and beside reference means, on real data.
// npm run bench -- methods [--experiments pissa,lora-ga,corda,eva,lora-sb,lora-plus,retention,mosa] [--seeds 1,2,3,4,5] [--steps 2500] [--json]
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Report, Suite } from './harness.js';
import { digitsExperiments, runDigits } from './methods/digits.js';
import { runMosa } from './methods/mosa.js';
import { runRetention } from './methods/retention.js';

const data = process.env.LORIKEET_DATA ?? '../shared/data';
const flags = {
  experiments: { type: 'string', default: [...digitsExperiments, 'retention', 'mosa'].join() },
  seeds: { type: 'string', default: '1,2,3,4,5' },
  /** Of MoSA. */
  steps: { type: 'string', default: '2500' },
} as const;

async function run(args: readonly string[], report: Report): Promise<object> {
  const { values } = parseArgs({ args: [...args], options: flags });
  const names = values.experiments.split(',');
  const seeds = values.seeds.split(',').map(Number);
  const folder = join(data, 'digits');
  const digits = await runDigits(
    names.filter((name) => !['retention', 'mosa'].includes(name)),
    seeds,
    folder,
    report,
  );
  const retention = names.includes('retention') ? await runRetention(seeds, folder, report) : undefined;
  const mosa = names.includes('mosa') ? await runMosa(seeds, Number(values.steps), folder, report) : undefined;
  return { digits, retention, mosa };
}

export const suite: Suite = {
  description: 'how fast adapter methods learn, and what they forget (digits)',
  run,
};
