// Compiled with the tests and never run: each marked line must not compile.

import { expectTypeOf } from 'expect-type';
import {
  attach,
  type EncoderModel,
  type Evaluation,
  evaluate,
  loadAdapter,
  loadModel,
  type Model,
  type TaskEvaluation,
  type TrainingResult,
  type TunedEncoder,
  train,
} from 'lorikeet';

export async function good(): Promise<void> {
  expectTypeOf(await loadModel('folder', { dtype: 'bf16' })).toEqualTypeOf<Model>();
  const model = await loadModel('folder', { task: 'classification', labels: ['a', 'b'] });
  expectTypeOf(model).toEqualTypeOf<EncoderModel<'classification'>>();
  const tuned = await attach(model, { type: 'lora' });
  expectTypeOf(tuned).toEqualTypeOf<TunedEncoder<'classification'>>();
  expectTypeOf(await loadAdapter(model, 'adapter')).toEqualTypeOf<TunedEncoder<'classification'>>();
  expectTypeOf((await tuned.predict(['text']))[0]?.label).toEqualTypeOf<string | undefined>();
  const tagger = await loadModel('folder', { task: 'token-classification' });
  expectTypeOf((await tagger.predict([{ words: ['a'] }]))[0]).toEqualTypeOf<readonly (string | null)[] | undefined>();
  const published = await loadModel('folder', { task: 'published' });
  expectTypeOf(published).toEqualTypeOf<EncoderModel>();
  expectTypeOf(await train(tuned, { data: { train: { path: 'rows.csv', label: 'stars' } } })).toEqualTypeOf<TrainingResult>();
  expectTypeOf(await evaluate(tuned, { path: 'rows.csv' })).toEqualTypeOf<TaskEvaluation>();
  expectTypeOf(await evaluate(await loadModel('folder'), { path: 'rows.csv' })).toEqualTypeOf<Evaluation>();
}

export async function bad(model: EncoderModel<'classification'>): Promise<void> {
  // @ts-expect-error unknown task
  await loadModel('folder', { task: 'classify' });
  // @ts-expect-error labels without a task
  await loadModel('folder', { labels: 3 });
  // @ts-expect-error an encoder has no logits of next tokens
  model.logits([[1]]);
  // @ts-expect-error texts alone have no labels
  await evaluate(model, ['text']);
}
