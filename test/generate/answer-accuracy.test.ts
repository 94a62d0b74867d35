import test from 'ava';
import { answerAccuracy, generate, loadModel } from 'lorikeet';
import { answerIn, instructionPrompt } from 'lorikeet/data';

test.serial('a model is scored by what it generates after each prompt, whatever the batch', async (t) => {
  const model = await loadModel('examples/stories260k');
  const rows = ['Lily has 3 cats.', 'Tom is 7.', 'Once upon a time'].map((instruction) => ({ instruction, answer: 'true' }));
  const options = { kind: 'truth', maxNewTokens: 12 } as const;
  const texts = await Promise.all(rows.map((row) => generate(model, instructionPrompt(row), { maxNewTokens: 12 }).text()));
  for (const batch of [1, 2, 16]) {
    const { accuracy, rows: answered } = await answerAccuracy(model, rows, { ...options, batch });
    t.deepEqual(
      answered.map(({ response }) => response),
      texts,
    );
    t.deepEqual(
      answered.map(({ answer }) => answer),
      texts.map((text) => answerIn(text, 'truth')),
    );
    t.is(accuracy, answered.filter(({ right }) => right).length / 3);
  }
  await t.throwsAsync(answerAccuracy(model, [], options), { code: 'invalid-argument', message: /no rows to answer/ });
  await t.throwsAsync(answerAccuracy(model, [{ instruction: 'x', answer: 'one' }], { kind: 'number' }), {
    code: 'format',
    message: /row 0 is no number/,
  });
  model.dispose();
});
