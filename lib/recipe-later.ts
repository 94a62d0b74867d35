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
  {
    path: 'compute',
    refuses: oneOf('int8'),
    advice: 'use f32 or bf16: weights are kept in 8 bits by `dtype: int8`, activations are floats',
  },
  { path: 'earlyStopping', refuses: always, advice: 'write `training.earlyStopping`' },
  { path: 'policy', refuses: always, advice: 'write `training.policy`' },
];
