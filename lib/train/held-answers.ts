import { type Question, readQuestions, requireQuestions } from '../data/questions.js';
import type { DataSources } from '../data/source.js';
import { ConfigError } from '../errors.js';
import { type AnswerProgress, type ResponseOptions, requireAskable, scoreResponses } from '../generate/answer-accuracy.js';
import { isLanguageModel, type LanguageModel } from '../model.js';
import { checked, type Recipe, type RecipeInput } from '../recipe.js';
import { evaluationSchema } from '../recipe-schema.js';
import type { TaskModel } from '../task-model.js';

/** The `evaluation` part of a recipe. */
export type EvaluationOptions = NonNullable<RecipeInput['evaluation']>;

/** How held-out questions are asked and scored, defaults filled in. */
export type AnswerSettings = NonNullable<NonNullable<Recipe['evaluation']>['answers']>;

/** Questions of held-out rows with how they are scored. */
export interface HeldQuestions {
  readonly questions: readonly Question[];
  readonly settings: AnswerSettings;
}

/** Fills in the defaults. Throws `ConfigError` for unknown keys and wrong values, without held-out rows that ask something, and for a model that writes no text. */
export function answerSettings(
  model: LanguageModel | TaskModel,
  options: EvaluationOptions | undefined,
  held: DataSources | undefined,
): AnswerSettings | undefined {
  const settings = options === undefined ? undefined : checked(evaluationSchema, options, 'evaluation').answers;
  if (settings === undefined) return undefined;
  if (!isLanguageModel(model)) throw new ConfigError(`evaluation.answers: a model for "${model.task}" writes no text; leave them out`);
  if (held === undefined) throw new ConfigError('evaluation.answers: needs held-out rows; expected data.eval beside it');
  requireQuestions(held);
  return settings;
}

/** The settings that say how responses are generated and scored. */
function responseOptions({ field: _, rows: __, ...settings }: AnswerSettings): ResponseOptions {
  return Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined)) as unknown as ResponseOptions;
}

/**
 * Reads the questions of all sources. Throws `FormatError` naming a row without an answer that can be compared, and `InvalidArgumentError` where none is left, for
 * a prompt that does not fit, and for settings that the model cannot take: before anything is computed.
 */
export async function readHeldQuestions(
  model: LanguageModel,
  sources: DataSources,
  settings: AnswerSettings,
  badRows: 'error' | 'skip' | undefined,
): Promise<HeldQuestions> {
  const { kind, field, rows } = settings;
  const questions = await readQuestions(sources, { kind, field, rows, badRows });
  requireAskable(model, questions, responseOptions(settings));
  return { questions, settings };
}

/** The part of the questions to which the model writes the right answer. */
export async function heldAnswerAccuracy(
  model: LanguageModel,
  { questions, settings }: HeldQuestions,
  {
    signal,
    onProgress,
  }: { readonly signal?: AbortSignal | undefined; readonly onProgress?: ((progress: AnswerProgress) => void) | undefined },
): Promise<number> {
  return (await scoreResponses(model, questions, { ...responseOptions(settings), onProgress, ...(signal === undefined ? {} : { signal }) }))
    .accuracy;
}
