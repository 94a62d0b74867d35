// Leading components of a weight, exact and randomised: what the starts that use them promise of the width of the sketch.
import test from 'ava';
import { attach, scope, type Tensor } from 'lorikeet';
import { svd } from 'lorikeet/linalg';
import { mul, narrow, normal, unsqueeze } from 'lorikeet/ops';
import { exactSvd, leading, principal } from '#dist/inits/leading.js';
import { apartUpToSigns, Layers } from '../helpers/started.js';

test('LoRA-XS sketches ten columns more than its rank', async (t) => {
  await scope(async () => {
    const weight = normal([40, 24], { seed: 1 });
    const { s, vt } = svd(weight);
    const errorOf = async (rank: number): Promise<number> => {
      const network = new Layers({ fc: weight });
      const set = await attach(network, { type: 'lora-xs', rank, targets: ['fc'], init: { type: 'svd', niter: 0 } }, { seed: 3 });
      const a = new Map(set.namedParameters()).get('fc.lora_A.weight') as Tensor;
      const error = await apartUpToSigns(a, mul(narrow(vt, 0, 0, rank), unsqueeze(narrow(s, 0, 0, rank), 1)));
      set.dispose();
      network.dispose();
      return error;
    };
    t.true((await errorOf(14)) < 1e-4, 'of all 24 columns a sketch is exact');
    t.true((await errorOf(13)) > 1e-3, 'of 23 it is not');
  });
});

test('the exact decomposition gives all components, a sketch its width, and the principal ones are the first of both', (t) => {
  scope(() => {
    const x = normal([20, 12], { seed: 1 });
    t.is(leading(x, 3, exactSvd, 0).s.size, 12);
    t.is(leading(x, 3, { niter: 2, oversample: 4 }, 0).s.size, 7);
    for (const flavour of [exactSvd, { niter: 2, oversample: 4 }]) {
      const { u, s, vt } = principal(x, 3, flavour, 0);
      t.deepEqual([u.shape, s.shape, vt.shape], [[20, 3], [3], [3, 12]]);
    }
  });
});
