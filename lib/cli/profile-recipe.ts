import { type AdapterConfig, attach, loadAdapter, loadModel, type Profile, profile, train } from '../index.js';
import { readRecipe } from '../recipe.js';
import type { CommandContext } from './command.js';
import { profileRows, profileText, type Roofline } from './profile-report.js';
import { sourceOf } from './recipe-source.js';

/** Steps that are run: the first packs weights and fills the memory pool; the fastest of the others counts. */
const kSteps = 4;

/** Trains a few steps as a recipe says, without writing anything, and prints where the fastest one went, op by op, against the roofline. */
export async function profileRecipe(path: string, roofline: Roofline, context: CommandContext): Promise<void> {
  const { output } = context;
  const { ms, rows } = await fastestStep(path, roofline, context);
  const { f32, bf16 } = roofline.gflops;
  const head = `a step of ${path} takes ${ms.toFixed(1)} ms; roofline ${f32.toFixed(0)} GFLOP/s f32, ${bf16.toFixed(0)} bf16, ${roofline.gigabytesPerSecond.toFixed(0)} GB/s`;
  output.result({ recipe: path, ms, roofline, ops: rows }, `${head}\n\n${profileText(rows)}`);
}

async function fastestStep(path: string, roofline: Roofline, { output, signal }: CommandContext) {
  const recipe = readRecipe(path, [`training.steps=${kSteps}`]);
  output.message(`loading ${recipe.model}`);
  const model = await loadModel(recipe.model, {
    signal,
    ...(recipe.dtype === undefined ? {} : { dtype: recipe.dtype }),
    ...(recipe.device === undefined ? {} : { device: recipe.device }),
  });
  try {
    const { adapter, training, data } = recipe;
    const tuned =
      typeof adapter === 'string'
        ? await loadAdapter(model, adapter, { signal })
        : await attach(model, adapter as unknown as AdapterConfig, { signal, seed: training.seed });
    const steps = train(tuned, { data: { train: sourceOf(data.train) }, training, signal })[Symbol.asyncIterator]();
    let best: Profile<unknown> | undefined;
    output.startProgress('step', kSteps);
    for (let step = 1; step <= kSteps; step++) {
      const run = await profile(() => steps.next());
      if (step > 1 && (best === undefined || run.ms < best.ms)) best = run;
      output.progress(step, `${run.ms.toFixed(0)} ms`);
    }
    await steps.return?.();
    const chosen = best as Profile<unknown>;
    return { ms: chosen.ms, rows: profileRows(chosen, roofline) };
  } finally {
    model.dispose();
  }
}
