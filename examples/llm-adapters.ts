// Run: npx tsc -p tsconfig.test.json && node out/examples/llm-adapters.js
// Bottleneck adapters in the places of the paper, LoRA and prefix tuning, on a tiny model that learns to answer in one form. Expected: each learns; the prefix least.
import { answerAccuracy, attach, loadModel, scope, type TunedModel } from 'lorikeet';
import { encodeCompletion, instructionRows } from 'lorikeet/data';
import { AdamW } from 'lorikeet/optim';

const model = await loadModel('examples/stories260k');
const names = ['Lily', 'Tom', 'Ben', 'Sue', 'Max', 'Anna', 'Tim', 'Mia'];
const rows = names.map((name, i) => {
  const answer = i % 2 === 0 ? 'true' : 'false';
  return { instruction: `Is ${name} ${i % 2 === 0 ? 'happy' : 'sad'} today?`, output: `the correct answer is ${answer}`, answer };
});

/** Prompt and completion as ids, the prompt not learnt. */
const examples = await Promise.all(
  instructionRows(rows).map(async ({ prompt, completion }) => {
    const { ids, promptLength } = await encodeCompletion(model.tokenizer, prompt, completion);
    const ended = [...ids, ...model.endTokens.slice(0, 1)];
    return { ids: ended, targets: ended.map((_, t) => (t + 1 >= promptLength ? (ended[t + 1] ?? -100) : -100)) };
  }),
);

async function learn(tuned: TunedModel, learningRate: number): Promise<number> {
  const optimizer = new AdamW(tuned.parameters(), { learningRate, weightDecay: 0 });
  let last = 0;
  for (let step = 0; step < 30; step++) {
    last = await scope(() => {
      const loss = tuned.loss({ ids: examples.map(({ ids }) => ids), targets: examples.map(({ targets }) => targets), training: true });
      loss.backward();
      optimizer.step();
      optimizer.zeroGrad();
      return loss.item();
    });
  }
  optimizer.dispose();
  return last;
}

const series = { type: 'bottleneck', bottleneckSize: 8 } as const;
const places = {
  'series, AdapterH': [series, 1e-2],
  'series, AdapterP': [{ ...series, adapterP: true }, 1e-2],
  'parallel in the MLP': [{ ...series, parallel: true, targets: ['up_proj', 'down_proj'] }, 1e-2],
  LoRA: [{ type: 'lora', rank: 8, targets: ['q_proj', 'v_proj'] }, 1e-2],
  'prefix of 10': [{ type: 'prefix', virtualTokens: 10 }, 3e-2],
} as const;

const losses: Record<string, number> = {};
for (const [name, [config, learningRate]] of Object.entries(places)) {
  const tuned = await attach(model, config, { seed: 1 });
  const count = tuned.table().reduce((sum, { parameters }) => sum + parameters, 0);
  losses[name] = await learn(tuned, learningRate);
  const { accuracy } = await answerAccuracy(tuned, rows, { kind: 'truth', maxNewTokens: 32 });
  console.log(`${name}: ${count} numbers, loss ${losses[name].toFixed(3)}, ${(100 * accuracy).toFixed(0)} % of the answers right`);
  tuned.dispose();
}
const { 'prefix of 10': prefix = 0, ...others } = losses;
if (!Object.values(others).every((loss) => loss < 1 && loss < prefix))
  throw new Error('llm-adapters: an adapter did not learn, or the prefix learnt most');
model.dispose();
