import { isLanguageModel, type LanguageModel } from '../model.js';
import type { EncoderTask } from '../models/encoder.js';
import type { TaskModel } from '../task-model.js';
import { classification } from './classification.js';
import type { EmbeddingLoss } from './embedding/config.js';
import { embedding } from './embedding/embedding.js';
import { languageTask } from './language.js';
import { maskedLm } from './masked-lm.js';
import { regression } from './regression.js';
import type { AnyTask } from './task.js';
import { tokenClassification } from './token-classification.js';

/** The tasks of encoders by name; each says what rows are to a model with the head of that task. */
export const tasks = {
  classification,
  regression,
  'token-classification': tokenClassification,
  'masked-lm': maskedLm,
  embedding,
} as const satisfies { readonly [T in EncoderTask]: (model: TaskModel, loss?: EmbeddingLoss) => AnyTask };

/** The task that a model learns; `loss` is for embeddings, which can be trained for several. */
export const taskOf = (model: LanguageModel | TaskModel, loss?: EmbeddingLoss): AnyTask =>
  isLanguageModel(model) ? languageTask(model) : tasks[model.task](model, loss);
