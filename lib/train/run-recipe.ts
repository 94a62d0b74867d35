import { type DataSource, type DataSources, sourceList } from '../data/source.js';
import { isLanguageModel } from '../model.js';
import type { Pooling } from '../models/pooling.js';
import { checked, formatRecipe, type Recipe } from '../recipe.js';
import { evaluationSchema, reportSchema } from '../recipe-schema.js';
import type { TaskModel } from '../task-model.js';
import type { TrainingSettings, TrainOptions } from './options.js';
import type { AnyTrainable } from './trainable.js';

/** `recipe.yaml` of a run folder: everything that was set, defaults filled in. Rows in memory are told by a note in place of their path. */
export function runRecipe(options: TrainOptions, settings: TrainingSettings, model: AnyTrainable): string {
  const { data, recipe = {}, evaluation, report, out } = options;
  const { loadedAs } = model;
  const dtype = recipe.dtype ?? ((loadedAs?.dtype ?? model.dtype) as Recipe['dtype']);
  const compute = recipe.compute ?? loadedAs?.compute;
  const layout = recipe.layout ?? loadedAs?.layout;
  return formatRecipe({
    model: recipe.model ?? model.source,
    ...(isLanguageModel(model) ? {} : { task: recipe.task ?? taskSettings(model) }),
    dtype,
    ...(compute === undefined ? {} : { compute }),
    ...(layout === undefined ? {} : { layout }),
    device: recipe.device ?? model.device,
    adapter: recipe.adapter ?? { type: 'unknown' },
    data: {
      train: sourcesOf(data.train, model),
      ...(data.eval === undefined ? {} : { eval: sourcesOf(data.eval, model) }),
      ...(recipe.data?.calibration === undefined ? {} : { calibration: recipe.data.calibration }),
      badRows: data.badRows ?? 'error',
    },
    training: settings,
    ...(evaluation === undefined ? {} : { evaluation: checked(evaluationSchema, evaluation, 'evaluation') }),
    ...(report === undefined ? {} : { report: checked(reportSchema, report, 'report') }),
    out,
  } satisfies Recipe);
}

/** The task of an encoder as a recipe says it. */
const taskSettings = ({ task, labels, network, newParameters = [], headSeed }: TaskModel): Recipe['task'] => ({
  type: task,
  ...(labels.length === 0 ? {} : { labels: [...labels] }),
  ...(network.pooling === undefined ? {} : { pooling: poolingSettings(network.pooling) }),
  ...(network.positions === undefined ? {} : { positions: network.positions }),
  ...(newParameters.length === 0 || headSeed === undefined ? {} : { seed: headSeed }),
});

const poolingSettings = ({ mode, normalize }: Pooling): NonNullable<NonNullable<Recipe['task']>['pooling']> => ({
  ...(mode === undefined ? {} : { mode: typeof mode === 'string' ? mode : [...mode] }),
  ...(normalize === undefined ? {} : { normalize }),
});

type RecipeSource = Extract<Recipe['data']['train'], { path: string }>;

function sourcesOf(sources: DataSources, model: AnyTrainable): Recipe['data']['train'] {
  const list = sourceList(sources).map((source) => sourceOf(source, model));
  return Array.isArray(sources) ? list : (list[0] as RecipeSource);
}

function sourceOf(source: DataSource, model: AnyTrainable): RecipeSource {
  const { rows, path, ...fields } = source;
  const { labels, ...rest } = fields;
  const named = source.field ?? source.messages ?? source.prompt;
  return {
    path: path ?? '(rows in memory)',
    ...(named === undefined && isLanguageModel(model) ? { field: 'text' } : {}),
    ...rest,
    ...(labels === undefined ? {} : { labels: [...labels] }),
  };
}
