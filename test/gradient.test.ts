import test from 'ava';
import { checkpoint, memory, scope } from 'lorikeet';
import { full, mul } from 'lorikeet/ops';

test.serial('what a checkpointed block makes on its way is let go when the block ends', (t) => {
  const added = (steps: number): number =>
    scope(() => {
      const x = full([2], 1).setRequiresGrad(true);
      const before = memory().tensors;
      checkpoint((value) => Array.from({ length: steps }).reduce<typeof value>((y) => mul(y, y), value), [x]);
      return memory().tensors - before;
    });
  t.is(added(20), added(1));
});
