import { adaptersOn } from '../adapters/adapter-set.js';
import type { LanguageModel } from '../model.js';
import type { TaskModel } from '../task-model.js';
import { residualOf } from './residual.js';

/** The initialisation whose part the weights of a model lack: one that split them here, or before they were loaded, while its adapter is not merged into them. */
export const lackingOf = (model: LanguageModel | TaskModel): string | undefined => adaptersOn(model.network)?.lacking ?? residualOf(model);
