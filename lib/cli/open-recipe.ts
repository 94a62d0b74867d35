import type { AnyMethod } from '../adapters/adapter.js';
import { type ResolvedConfig, resolveConfig } from '../adapters/resolve-config.js';
import {
  type AdapterConfig,
  type AttachOptions,
  attach,
  type CalibrationData,
  calibrationBatches,
  type EncoderModel,
  initialFactorsOf,
  type Model,
  type TunedEncoder,
  type TunedModel,
} from '../index.js';
import { isLanguageModel } from '../model.js';
import type { Recipe } from '../recipe.js';
import { sourcesOf } from '../recipe-source.js';
import type { CommandContext } from './command.js';
import { loadOnto, openBase } from './open-model.js';

/** The model and adapter of a recipe, owned by a command. */
export interface OpenRecipe {
  readonly tuned: TunedModel | TunedEncoder;
  dispose(): void;
}

/** `resumed`: the run folder that is gone on with, whose adapter has begun already. */
export async function openRecipe(recipe: Recipe, context: CommandContext, resumed?: string): Promise<OpenRecipe> {
  const { adapter, training } = recipe;
  const { signal } = context;
  const model = await openBase({ ...recipe, seed: training.seed }, context);
  try {
    const tuned =
      typeof adapter === 'string'
        ? await loadOnto(model, adapter, { signal })
        : await attachTo(model, adapter as unknown as AdapterConfig, {
            signal,
            seed: training.seed,
            ...(await startOf(model, resolveConfig(adapter), recipe, context, resumed)),
          });
    context.output.endProgress();
    return { tuned, dispose: () => model.dispose() };
  } catch (error) {
    model.dispose();
    throw error;
  }
}

/** `attach` for whatever model. */
const attachTo = (model: Model | EncoderModel, config: AdapterConfig, options: AttachOptions) =>
  isLanguageModel(model) ? attach(model, config, options) : attach(model, config, options);

/** What an adapter that looks at weights or data starts from: the factors of the run that is gone on with, or the model and data. */
async function startOf(
  model: Model | EncoderModel,
  adapter: ResolvedConfig,
  recipe: Recipe,
  { output, signal }: CommandContext,
  resumed: string | undefined,
): Promise<Pick<AttachOptions, 'data' | 'initial' | 'onProgress'>> {
  const { method, config } = adapter;
  const usesData = method.usesData?.(config) ?? false;
  if (method.takes?.(config) === undefined && !usesData) return {};
  const initial = await factorsOfRun(adapter, resumed);
  if (initial !== undefined) return { initial };
  let expected = 0;
  const onProgress: AttachOptions['onProgress'] = ({ done, total, path }) => {
    if (total !== expected) output.startProgress('initialising', total);
    expected = total;
    output.progress(done, [path]);
  };
  return {
    onProgress,
    ...(usesData ? { data: await calibrationOf(model, method.calibration?.(config), recipe, { output, signal }) } : {}),
  };
}

/**
 * Folder of the factors that an adapter of a run goes on with instead of looking at weights or data again; undefined where it has to
 * look.
 */
export async function factorsOfRun({ method, config }: ResolvedConfig, run: string | undefined): Promise<string | undefined> {
  return run === undefined || method.takes?.(config)?.formedFromFactors === false ? undefined : initialFactorsOf(run);
}

/** The batches that an initialisation looks at, as many and as large as its own options say. */
function calibrationOf(
  model: Model | EncoderModel,
  size: ReturnType<NonNullable<AnyMethod['calibration']>> | undefined,
  { data, training }: Recipe,
  { output, signal }: Pick<CommandContext, 'output' | 'signal'>,
): Promise<CalibrationData> {
  output.startProgress('reading calibration rows', 0);
  return calibrationBatches(model, sourcesOf(data.calibration ?? data.train), {
    batchSize: size?.batchSize,
    batches: size?.batches,
    training,
    badRows: data.badRows,
    signal,
    onData: ({ rows }) => output.progress(rows),
  });
}
