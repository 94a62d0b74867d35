import test from 'ava';
import { generate, loadModel } from 'lorikeet';
import { lastJson, lorikeet } from '../helpers/command-line.js';
import { shippedModel } from '../helpers/shipped.js';

test('greedy text of the shipped model, as text and as JSON', async (t) => {
  const args = ['generate', '--model', shippedModel, '--prompt', 'Once upon a time', '--max-new-tokens', '20'];
  const text = await lorikeet([...args, '--quiet']);
  t.is(text.code, 0, text.stderr);
  t.is(text.stderr, '');
  const json = await lorikeet([...args, '--json']);
  t.is(json.code, 0, json.stderr);
  const result = lastJson(json);
  t.is(json.stdout.trimEnd().split('\n').length, 1);
  t.is(result.tokens, 20);
  t.is(result.promptTokens, 5);
  t.is(typeof result.tokensPerSecond, 'number');
  t.is(`${result.text as string}\n`, text.stdout);
  t.regex(result.text as string, /there was a little girl/);
});

test('a seed gives the same draws', async (t) => {
  const draw = async (seed: string) =>
    lastJson(
      await lorikeet([
        'generate',
        '--model',
        shippedModel,
        '--prompt',
        'The',
        '--max-new-tokens',
        '12',
        '--temperature',
        '1',
        '--top-k',
        '50',
        '--top-p',
        '0.95',
        '--seed',
        seed,
        '--json',
      ]),
    ).text;
  t.is(await draw('3'), await draw('3'));
  t.not(await draw('3'), await draw('4'));
});

test('--chat needs a template', async (t) => {
  const result = await lorikeet(['generate', '--model', shippedModel, '--prompt', 'Hi', '--chat']);
  t.is(result.code, 2);
  t.regex(result.stderr, /no chat template/);
});

test('beam search prints its text as a whole, which is that of the library', async (t) => {
  const args = [
    'generate',
    '--model',
    shippedModel,
    '--prompt',
    'Lily',
    '--max-new-tokens',
    '12',
    '--beams',
    '3',
    '--length-penalty',
    '0.5',
  ];
  const [text, drawn] = await Promise.all([lorikeet([...args, '--quiet']), lorikeet([...args, '--temperature', '1'])]);
  using model = await loadModel(shippedModel);
  const expected = await generate(model, 'Lily', { maxNewTokens: 12, beams: 3, lengthPenalty: 0.5 }).text();
  t.is(text.stdout, `${expected}\n`);
  t.is(drawn.code, 2);
  t.regex(drawn.stderr, /beam search takes no temperature/);
});
