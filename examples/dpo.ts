// Run: npx tsc -p tsconfig.test.json && node out/examples/dpo.js
// Direct Preference Optimization: a preference loss written from ops. Expected: loss from 0.6931 to below 0.1, every pair in the preferred order.
import { attach, loadModel, noGrad, scope, type Tensor } from 'lorikeet';
import { collate, encodeExample } from 'lorikeet/data';
import { logSigmoid, mean, mul, narrow, neg, sub, sum } from 'lorikeet/ops';
import { AdamW, clipGradNorm } from 'lorikeet/optim';

const model = await loadModel('examples/stories260k');
const tuned = await attach(model, { type: 'lora', rank: 8, targets: 'all-linear' }, { seed: 1 });
const optimizer = new AdamW(tuned.parameters(), { learningRate: 5e-4 });

// The stories prefer dogs; the pairs prefer cats. Rows 0 to N - 1 are the chosen completions, rows N to 2 N - 1 the rejected ones.
const prompts = ['Once upon a time, there was a', 'Lily saw a big', 'Tom had a', 'In the park there was a', 'One day, a little'];
const pairs = ['cat', 'dog'].flatMap((animal) => prompts.map((prompt) => ({ prompt, completion: ` ${animal}.` })));
const rows = pairs.map((pair) => encodeExample({ kind: 'completion', where: pair.prompt, ...pair }, model.tokenizer, 64));
const { ids, targets } = collate(await Promise.all(rows));

/** log p(chosen) - log p(rejected) of each pair, [N]. */
function preference(): Tensor {
  const surprise = sum(tuned.loss({ ids, targets, reduction: 'none' }), 1);
  return sub(narrow(surprise, 0, prompts.length, prompts.length), narrow(surprise, 0, 0, prompts.length));
}

tuned.disable();
const reference = noGrad(preference);
tuned.enable();
let last = 0;
for (let step = 1; step <= 20; step++) {
  last = await scope(() => {
    const loss = mean(neg(logSigmoid(mul(sub(preference(), reference), 0.5))));
    loss.backward();
    clipGradNorm(tuned.parameters(), 1);
    optimizer.step();
    optimizer.zeroGrad();
    return loss.item();
  });
  console.log(`step ${step}  loss ${last.toFixed(4)}`);
}
const margins = Array.from(await scope(() => noGrad(preference).data()), Number);
console.log('log p(cat) - log p(dog):', margins.map((margin) => margin.toFixed(2)).join(', '));
if (!(last < 0.1 && margins.every((margin) => margin > 0))) throw new Error('dpo: the preference was not learnt');
