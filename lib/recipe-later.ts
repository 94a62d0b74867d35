/** A setting that the recipe language has and this version refuses. */
export interface LaterSetting {
  readonly path: string;
  readonly advice: string;
}

export const kLater: readonly LaterSetting[] = [
  { path: 'earlyStopping', advice: 'write `training.earlyStopping`' },
  { path: 'policy', advice: 'write `training.policy`' },
];
