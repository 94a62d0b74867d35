// Run: npx tsc -p tsconfig.test.json && node out/examples/custom-loss.js
// A loss of one's own from ops, in a loop of one's own: the focal loss, which cares most for tokens that are still badly predicted. Expected: below 0.5.
import { attach, loadModel, scope } from 'lorikeet';
import { exp, mean, mul, neg, square, sub } from 'lorikeet/ops';
import { AdamW } from 'lorikeet/optim';

const model = await loadModel('examples/stories260k');
const tuned = await attach(model, { type: 'lora', rank: 8, targets: 'all-linear' });
const optimizer = new AdamW(tuned.parameters(), { learningRate: 3e-3 });
for (let step = 1; step <= 20; step++) {
  const value = await scope(() => {
    const surprise = tuned.loss({ ids: [model.tokenizer.encode('To be, or not to be')], reduction: 'none', training: true });
    const loss = mean(mul(square(sub(1, exp(neg(surprise)))), surprise));
    loss.backward();
    optimizer.step();
    optimizer.zeroGrad();
    return loss.item();
  });
  console.log(`step ${step}  focal loss ${value.toFixed(4)}`);
  if (step === 20 && !(value < 0.5)) throw new Error('custom-loss: the loss did not fall below 0.5');
}
