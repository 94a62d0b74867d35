import { z } from 'zod';
import { type Profile, profile, train } from '../index.js';
import { readRecipe } from '../recipe.js';
import { sourcesOf } from '../recipe-source.js';
import type { CommandContext } from './command.js';
import { openRecipe } from './open-recipe.js';
import { profileRow, profileRows, profileText, type Roofline } from './profile-report.js';

/** What `doctor --profile --json` prints. */
export const profileOutput = z.strictObject({
  recipe: z.string(),
  ms: z.number().describe('time of the step'),
  roofline: z
    .strictObject({ gflops: z.strictObject({ f32: z.number(), bf16: z.number() }), gigabytesPerSecond: z.number() })
    .describe('what this machine was measured to do'),
  ops: z.array(profileRow).describe('by op, the longest first'),
});

/** Steps that are run: the first packs weights and fills the memory pool; the fastest of the others counts. */
const kSteps = 4;

/** Trains a few steps as a recipe says, without writing anything, and prints where the fastest one went, op by op, against the roofline. */
export async function profileRecipe(path: string, roofline: Roofline, context: CommandContext): Promise<void> {
  const { output } = context;
  const { ms, rows } = await fastestStep(path, roofline, context);
  const { f32, bf16 } = roofline.gflops;
  const head = `a step of ${path} takes ${ms.toFixed(1)} ms; roofline ${f32.toFixed(0)} GFLOP/s f32, ${bf16.toFixed(0)} bf16, ${roofline.gigabytesPerSecond.toFixed(0)} GB/s`;
  const result = { recipe: path, ms, roofline, ops: rows } satisfies z.output<typeof profileOutput>;
  output.result(result, `${head}\n\n${profileText(rows)}`);
}

async function fastestStep(path: string, roofline: Roofline, context: CommandContext) {
  const { output, signal } = context;
  const recipe = readRecipe(path, [`training.steps=${kSteps}`]);
  const { tuned, dispose } = await openRecipe(recipe, context);
  try {
    const { data } = recipe;
    // Nothing is held out here, so that no held-out loss can end the run.
    const { earlyStopping: _, ...training } = recipe.training;
    const steps = train(tuned, { data: { train: sourcesOf(data.train), badRows: data.badRows }, training, signal })[Symbol.asyncIterator]();
    let best: Profile<unknown> | undefined;
    output.startProgress('step', kSteps);
    for (let step = 1; step <= kSteps; step++) {
      const run = await profile(() => steps.next());
      if (step > 1 && (best === undefined || run.ms < best.ms)) best = run;
      output.progress(step, [`${run.ms.toFixed(0)} ms`]);
    }
    await steps.return?.();
    const chosen = best as Profile<unknown>;
    return { ms: chosen.ms, rows: profileRows(chosen, roofline) };
  } finally {
    dispose();
  }
}
