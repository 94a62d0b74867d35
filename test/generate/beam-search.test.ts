import test from 'ava';
import {
  attach,
  beamSearch,
  CancelledError,
  generate,
  generateBatch,
  type LogitsProcessor,
  loadModel,
  type Model,
  noGrad,
  sample,
  scope,
} from 'lorikeet';
import { add, full, tensor } from 'lorikeet/ops';
import { goldenFolder, readJson } from '../helpers/folders.js';
import { perturb } from '../helpers/perturb.js';
import { shippedModel } from '../helpers/shipped.js';

/** What transformers found; recorded by scripts/golden/beams.py. */
interface Recorded {
  readonly prompt: number[];
  readonly endTokens: number[];
  readonly options: Record<string, number | boolean | string>;
  readonly sequences: number[][];
  readonly scores: number[];
}

const recorded = readJson<Record<string, Recorded>>(goldenFolder, 'beams.json');
const names: Readonly<Record<string, string>> = {
  num_beams: 'beams',
  max_new_tokens: 'maxNewTokens',
  early_stopping: 'earlyStopping',
  length_penalty: 'lengthPenalty',
  repetition_penalty: 'repetitionPenalty',
};
const optionsOf = ({ options, endTokens }: Recorded) => ({
  ...Object.fromEntries(Object.entries(options).map(([key, value]) => [names[key] as string, value])),
  endTokens,
});

let model: Model;
test.before(async () => {
  model = await loadModel(shippedModel, { dtype: 'f32' });
});
test.after.always(() => model.dispose());

for (const [name, golden] of Object.entries(recorded)) {
  test.serial(`all beams are those of transformers: ${name}`, async (t) => {
    const [beams = []] = await beamSearch(model, [golden.prompt], optionsOf(golden));
    t.deepEqual(
      beams.map(({ ids }) => ids),
      golden.sequences,
    );
    for (const [index, { score, logProbabilities, finishReason, ids }] of beams.entries()) {
      const expected = golden.scores[index] ?? Number.NaN;
      t.true(Math.abs(score - expected) < 1e-5 * Math.max(1, Math.abs(expected)), `${score} ${expected}`);
      const power = (golden.options.length_penalty as number | undefined) ?? 1;
      const sum = logProbabilities.reduce((total, value) => total + value, 0);
      t.true(Math.abs(score - sum / ids.length ** power) < 1e-9);
      t.is(finishReason, golden.endTokens.includes(ids.at(-1) ?? -1) ? 'end' : 'length');
    }
  });
}

test.serial('a score is that of a plain pass over the tokens', async (t) => {
  const prompt = model.tokenizer.encode('Tom and Lily');
  const [[best] = []] = await beamSearch(model, [prompt], { beams: 4, maxNewTokens: 12 });
  const { ids = [], logProbabilities = [] } = best ?? {};
  const whole = [...prompt, ...ids];
  const targets = whole.map((_, t) => (t >= prompt.length - 1 ? (whole[t + 1] ?? -100) : -100));
  const losses = await scope(
    async () =>
      (await noGrad(() => model.loss({ ids: [whole], targets: [targets], reduction: 'none', training: false })).data()) as Float32Array,
  );
  for (const [index, value] of logProbabilities.entries()) t.true(Math.abs(value + (losses[prompt.length - 1 + index] ?? 0)) < 1e-5);
});

const texts = ['Once upon a time', 'Lily', 'The big dog ran and'];
const options = { beams: 3, maxNewTokens: 12, endTokens: [fullStop()] };

/** The token of a full stop, which ends sentences before they are long. */
function fullStop(): number {
  return recorded['one end token']?.endTokens[0] ?? 0;
}

test.serial('prompts of a batch have the bits that each has alone, with an adapter that puts keys in front too', async (t) => {
  const tuned = await attach(model, { type: 'prefix', virtualTokens: 3 }, { seed: 1 });
  perturb(tuned, 0.3);
  for (const each of [tuned, model]) {
    if (each === model) tuned.dispose();
    const alone = (await Promise.all(texts.map((text) => beamSearch(each, [text], options)))).map(([beams]) => beams);
    t.deepEqual(await beamSearch(each, texts, options), alone);
    const best = await generateBatch(each, texts, options);
    t.deepEqual(
      best.map(({ ids }) => ids),
      alone.map((beams) => beams?.[0]?.ids),
    );
    t.is(await generate(each, texts[1] as string, options).text(), alone[1]?.[0]?.text ?? '');
  }
});

test.serial('one beam is the likeliest token each time', async (t) => {
  const greedy = await sample(model, 'Once upon a time', { maxNewTokens: 12, endTokens: [] });
  const [[only] = []] = await beamSearch(model, ['Once upon a time'], { beams: 1, maxNewTokens: 12, endTokens: [] });
  t.deepEqual(only?.ids, greedy.ids);
});

test.serial('processors rule tokens out', async (t) => {
  const [vocabulary, banned] = [512, [1, 2, 3]];
  const mask = tensor(Float32Array.from({ length: vocabulary }, (_, id) => (banned.includes(id) ? 0 : Number.NEGATIVE_INFINITY)));
  const found = await beamSearch(model, ['Once'], {
    beams: 2,
    maxNewTokens: 3,
    endTokens: [],
    processors: [(scores) => add(scores, mask)],
  });
  t.is(found[0]?.length, 2);
  t.true(found[0]?.every(({ ids }) => ids.every((id) => banned.includes(id))));
  await t.throwsAsync(beamSearch(model, ['Once'], { processors: [(scores) => full(scores.shape, Number.NEGATIVE_INFINITY)] }), {
    code: 'non-finite',
    message: /rule out every token/,
  });
  await t.throwsAsync(beamSearch(model, ['Once'], { processors: [(scores) => full(scores.shape, Number.NaN)] }), { code: 'non-finite' });
  mask.dispose();
});

test.serial('what beam search cannot do is refused', async (t) => {
  const refused = (given: object, message: RegExp) =>
    t.throws(() => generate(model, 'Once', given), { code: 'invalid-argument', message }, JSON.stringify(given));
  refused({ beams: 0 }, /beams is out of range; got 0/);
  refused({ beams: 1e9 }, /beams is out of range; got 1000000000, expected an integer from 1 to the 512 tokens of the model/);
  refused({ beams: 2, temperature: 0.5 }, /takes no temperature; got 0\.5 with beams 2/);
  refused({ beams: 2, stop: ['x'] }, /takes no stop; got \["x"\] with beams 2, expected endTokens/);
  refused({ lengthPenalty: 2 }, /lengthPenalty is of beam search; got it with beams 1/);
  refused({ beams: 2, lengthPenalty: Number.NaN }, /lengthPenalty is out of range/);
  refused({ beams: 2, earlyStopping: 'always' }, /earlyStopping is out of range; got "always"/);
  const streamed = async () => {
    for await (const _ of generate(model, 'Once', { beams: 2 })) t.fail();
  };
  await t.throwsAsync(streamed, { code: 'invalid-argument', message: /nothing to show before its end/ });
  const controller = new AbortController();
  const { signal } = controller;
  const abort: LogitsProcessor = (scores) => {
    controller.abort();
    return scores;
  };
  await t.throwsAsync(beamSearch(model, ['Once'], { signal, processors: [abort] }), { instanceOf: CancelledError });
  t.deepEqual(await beamSearch(model, []), []);
});
