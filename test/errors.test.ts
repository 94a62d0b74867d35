import test from 'ava';
import * as errors from '#dist/errors.js';

test('each code has its class, and each class its code and name', (t) => {
  for (const [code, name] of [
    ['invalid-argument', 'InvalidArgumentError'],
    ['shape', 'ShapeError'],
    ['format', 'FormatError'],
    ['config', 'ConfigError'],
    ['adapter', 'AdapterError'],
    ['out-of-memory', 'OutOfMemoryError'],
    ['disposed', 'DisposedError'],
    ['device', 'DeviceError'],
    ['cancelled', 'CancelledError'],
    ['hub', 'HubError'],
    ['non-finite', 'NonFiniteError'],
    ['loss-spike', 'LossSpikeError'],
    ['io', 'IoError'],
    ['native', 'NativeError'],
  ] as const) {
    const cause = new Error('inner');
    const error = errors.errorOf(code, 'op: wrong', { cause });
    t.is(error.name, name);
    t.is(error.code, code);
    t.is(error.cause, cause);
    t.true(error instanceof errors.LorikeetError);
    t.true(error instanceof errors[name]);
    t.true(errors.isErrorCode(code));
  }
  t.false(errors.isErrorCode('toString'));
  t.false(errors.isErrorCode(undefined));
});

test('nearest finds typing errors and other spellings, and nothing far away', (t) => {
  const keys = ['rank', 'alpha', 'targets', 'learningRate', 'lora_dropout'];
  t.is(errors.nearest('aplha', keys), 'alpha');
  t.is(errors.nearest('learning_rate', keys), 'learningRate');
  t.is(errors.nearest('loraDropout', keys), 'lora_dropout');
  t.is(errors.nearest('target', keys), 'targets');
  t.is(errors.nearest('zzz', keys), undefined);
  t.is(errors.didYouMean('rnak', keys), '; did you mean "rank"?');
  t.is(errors.didYouMean('optimizer', keys), '');
});

test('throwIfAborted carries the reason of the signal', (t) => {
  t.notThrows(() => errors.throwIfAborted(undefined, 'load'));
  t.notThrows(() => errors.throwIfAborted(new AbortController().signal, 'load'));
  const reason = new Error('enough');
  const error = t.throws(() => errors.throwIfAborted(AbortSignal.abort(reason), 'load'), { instanceOf: errors.CancelledError });
  t.is(error.message, 'load: cancelled');
  t.is(error.cause, reason);
});
