// Watching what goes through layers leaves the network as it was, also where it cannot begin.
import test from 'ava';
import { Linear, Module } from 'lorikeet/nn';
import { observing } from '#dist/inits/observe.js';

class Two extends Module {
  first = new Linear(3, 2, { bias: false });
  second = new Linear(2, 2, { bias: false });
}

test('a path without a layer is an error, and the layers before it are bare again', async (t) => {
  const network = new Two();
  const { first, second } = network;
  await t.throwsAsync(
    observing(network, ['first', 'third'], {}, async () => t.fail()),
    { message: /no child "third"/ },
  );
  t.is(network.first, first);
  await t.throwsAsync(
    observing(network, ['first', 'second'], {}, async () => {
      t.not(network.first, first);
      throw new Error('stopped');
    }),
    { message: 'stopped' },
  );
  t.is(network.first, first);
  t.is(network.second, second);
});
