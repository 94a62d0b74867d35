/** A setting that the recipe language has and this version refuses. */
export interface LaterSetting {
  readonly path: string;
  readonly refuses: (value: unknown) => boolean;
  readonly advice: string;
}

const always = () => true;
const oneOf =
  (...values: readonly unknown[]) =>
  (value: unknown) =>
    values.includes(value);

export const kLater: readonly LaterSetting[] = [
  { path: 'training.optimizer', refuses: oneOf('adafactor'), advice: 'use adamw, adamw-8bit, lion or sgd' },
  { path: 'earlyStopping', refuses: always, advice: 'write `training.earlyStopping`' },
  { path: 'policy', refuses: always, advice: 'write `training.policy`' },
];
