import test from 'ava';
import { checkLora, loraDefaults } from '#dist/adapters/lora-config.js';
import { resolveConfig } from '#dist/adapters/resolve-config.js';

for (const [change, message] of [
  [{ rank: 0 }, /lora: rank must be a positive integer; got 0/],
  [{ rank: -1 }, /rank must be a positive integer; got -1/],
  [{ rank: 2.5 }, /rank must be a positive integer; got 2\.5/],
  [{ alpha: Number.NaN }, /alpha must be a number/],
  [{ dropout: 1 }, /dropout must be at least 0 and below 1; got 1/],
  [{ dropout: -0.1 }, /dropout must be at least 0 and below 1; got -0\.1/],
  [{ init: 'nonsense' }, /unknown init; got "nonsense", expected true, false or one of gaussian, orthogonal, pissa/],
  [{ bias: 'some' }, /unknown bias mode; got "some"/],
  [{ loraBias: true, dora: true }, /loraBias cannot be combined with dora/],
  [{ loraBias: true, init: 'gaussian' }, /loraBias needs init true or false; got "gaussian"/],
  [{ rankPattern: { q: 0 } }, /rankPattern\["q"\] must be a positive integer; got 0/],
  [{ alphaPattern: { q: 'a' } }, /alphaPattern\["q"\] must be a number; got "a"/],
  [{ trainableTokenIndices: [1, 1] }, /repeats an id/],
  [{ trainableTokenIndices: [-1] }, /must be lists of token ids/],
  [{ dora: 1 }, /dora must be true or false; got 1/],
] as const) {
  test(`a config is refused: ${JSON.stringify(change)}`, (t) => {
    t.throws(() => checkLora({ ...loraDefaults, ...(change as object) }), { code: 'config', message });
  });
}

test('unknown methods, keys and kinds of values name what was meant', (t) => {
  t.throws(() => resolveConfig({ type: 'lroa' }), {
    code: 'config',
    message: /unknown type; got "lroa", expected one of .*did you mean "lora"/,
  });
  t.throws(() => resolveConfig({ type: 'lora', aplha: 3 }), {
    code: 'config',
    message: /unknown key "aplha" for "lora"; did you mean "alpha"\?/,
  });
  t.throws(() => resolveConfig({ type: 'lora', targets: 3 }), { message: /lora: targets is of the wrong kind; got 3/ });
  t.throws(() => resolveConfig({ type: 'lora', modulesToSave: 'head' }), { message: /modulesToSave is of the wrong kind/ });
});
