import test from 'ava';
import { manualSeed, RandomScope, randomState, setRandomState } from 'lorikeet';
import { dropout, ones } from 'lorikeet/ops';

const draw = (): number[] => [...(dropout(ones([64]), 0.5).dataSync() as Float32Array)];

test.serial('a scope draws by its own seed, and leaves the draws around it alone', (t) => {
  manualSeed(5);
  const expected = [draw(), draw(), draw()];
  manualSeed(7);
  const first = draw();
  const scope = new RandomScope(5);
  t.deepEqual(scope.within(draw), expected[0]);
  t.is(randomState().draws, 1);
  const second = draw();
  t.deepEqual(
    scope.within(() => [draw(), draw()]),
    expected.slice(1),
  );
  manualSeed(7);
  t.deepEqual([draw(), draw()], [first, second]);
});

test.serial('states set within a scope stay in it, also when the work fails', (t) => {
  manualSeed(7);
  const scope = new RandomScope(5);
  const [one, two] = scope.within(() => [draw(), draw()]);
  t.throws(
    () =>
      scope.within(() => {
        setRandomState({ seed: 5n, draws: 1 });
        throw new Error('no');
      }),
    { message: 'no' },
  );
  t.deepEqual(randomState(), { seed: 7n, draws: 0 });
  t.deepEqual(scope.within(draw), two);
  t.notDeepEqual(one, two);
});
