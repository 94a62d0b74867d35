// npm run soak [-- --minutes 60 --seed 1]: everything a long-lived process does with models, again and again (soak/cycle.mjs); fails when a count or a size is not
// flat over the second half, or when a result is not the bits of the first cycle. npm run soak -- --steps 10000: one long run and its event loop (soak/steps.mjs).
// Both print a line every few seconds and one JSON object at the end.
import { parseArgs } from 'node:util';
import { soakCycles } from './soak/cycles.mjs';
import { soakSteps } from './soak/steps.mjs';

const { values } = parseArgs({
  options: { minutes: { type: 'string', default: '60' }, seed: { type: 'string', default: '1' }, steps: { type: 'string' } },
});
const { result, problems } =
  values.steps === undefined ? await soakCycles(Number(values.minutes), Number(values.seed)) : await soakSteps(Number(values.steps));
console.log(JSON.stringify({ ...result, problems }));
if (problems.length > 0) {
  console.error(`soak: ${problems.join('; ')}`);
  process.exitCode = 1;
}
