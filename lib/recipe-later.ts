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
  { path: 'training.packing', refuses: oneOf(true), advice: 'use `packing: false` (rows are padded; padding never counts)' },
  { path: 'training.optimizer', refuses: oneOf('lion', 'adamw8bit', 'adamw-8bit', 'adafactor'), advice: 'use adamw or sgd' },
  {
    path: 'compute',
    refuses: oneOf('int8'),
    advice: 'use f32 or bf16: weights are kept in 8 bits by `dtype: int8`, activations are floats',
  },
  { path: 'training.earlyStopping', refuses: always, advice: 'leave it out: the best adapter is kept in best/' },
  { path: 'earlyStopping', refuses: always, advice: 'leave it out: the best adapter is kept in best/' },
  { path: 'policy', refuses: always, advice: 'leave it out: a loss that is not finite stops the run with its last state saved' },
  { path: 'training.policy', refuses: always, advice: 'leave it out: a loss that is not finite stops the run with its last state saved' },
];
