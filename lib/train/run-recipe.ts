import { type DataSource, type DataSources, sourceList } from '../data/source.js';
import { checked, formatRecipe, type Recipe } from '../recipe.js';
import { reportSchema } from '../recipe-schema.js';
import type { TrainingSettings, TrainOptions } from './options.js';
import type { TrainableModel } from './trainable.js';

/** `recipe.yaml` of a run folder: everything that was set, defaults filled in. Rows in memory are told by a note in place of their path. */
export function runRecipe(options: TrainOptions, settings: TrainingSettings, model: TrainableModel): string {
  const { data, recipe = {}, report, out } = options;
  const { loadedAs } = model;
  const dtype = recipe.dtype ?? ((loadedAs?.dtype ?? model.dtype) as Recipe['dtype']);
  const compute = recipe.compute ?? loadedAs?.compute;
  const layout = recipe.layout ?? loadedAs?.layout;
  return formatRecipe({
    model: recipe.model ?? model.source,
    dtype,
    ...(compute === undefined ? {} : { compute }),
    ...(layout === undefined ? {} : { layout }),
    device: recipe.device ?? model.device,
    adapter: recipe.adapter ?? { type: 'unknown' },
    data: {
      train: sourcesOf(data.train),
      ...(data.eval === undefined ? {} : { eval: sourcesOf(data.eval) }),
      ...(recipe.data?.calibration === undefined ? {} : { calibration: recipe.data.calibration }),
      badRows: data.badRows ?? 'error',
    },
    training: settings,
    ...(report === undefined ? {} : { report: checked(reportSchema, report, 'report') }),
    out,
  } satisfies Recipe);
}

type RecipeSource = Extract<Recipe['data']['train'], { path: string }>;

function sourcesOf(sources: DataSources): Recipe['data']['train'] {
  const list = sourceList(sources).map(sourceOf);
  return Array.isArray(sources) ? list : (list[0] as RecipeSource);
}

function sourceOf(source: DataSource): RecipeSource {
  const { rows, path, ...fields } = source;
  const { labels, ...rest } = fields;
  const named = source.field ?? source.messages ?? source.prompt;
  return {
    path: path ?? '(rows in memory)',
    ...(named === undefined ? { field: 'text' } : {}),
    ...rest,
    ...(labels === undefined ? {} : { labels: [...labels] }),
  };
}
