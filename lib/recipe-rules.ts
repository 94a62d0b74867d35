/** Keys of `training` that only some optimizers and schedules have. */
const kBelongs: Readonly<Record<string, { readonly to: 'optimizer' | 'schedule'; readonly names: readonly string[] }>> = {
  betas: { to: 'optimizer', names: ['adamw', 'adamw-8bit', 'lion'] },
  eps: { to: 'optimizer', names: ['adamw', 'adamw-8bit'] },
  momentum: { to: 'optimizer', names: ['sgd'] },
  adafactor: { to: 'optimizer', names: ['adafactor'] },
  minimumRate: { to: 'schedule', names: ['linear', 'cosine', 'wsd'] },
  decayShare: { to: 'schedule', names: ['wsd'] },
};

interface Wrong {
  readonly key: string;
  readonly message: string;
}

/** Settings that would have no effect: each with what was expected. */
export function checkTraining(training: Readonly<Record<string, unknown>>): Wrong[] {
  return [...belonging(training), ...relativeSteps(training)];
}

function belonging(training: Readonly<Record<string, unknown>>): Wrong[] {
  return Object.entries(kBelongs).flatMap(([key, { to, names }]) => {
    if (training[key] === undefined || names.includes(String(training[to]))) return [];
    return [{ key, message: `expected it only with ${to} ${names.join(' or ')}; the ${to} is ${training[to]}` }];
  });
}

/** Relative steps of Adafactor leave no place for a learning rate, and their warm-up is of them alone. */
function relativeSteps({ adafactor, learningRate, optimizer }: Readonly<Record<string, unknown>>): Wrong[] {
  if (optimizer !== 'adafactor' || typeof adafactor !== 'object' || adafactor === null) return [];
  const { relativeStep = false, warmupInit = false } = adafactor as { relativeStep?: boolean; warmupInit?: boolean };
  if (relativeStep && learningRate !== 1)
    return [{ key: 'learningRate', message: 'expected 1 with adafactor.relativeStep, which finds the rate itself' }];
  if (warmupInit && !relativeStep) return [{ key: 'adafactor', message: 'expected relativeStep: true beside warmupInit' }];
  return [];
}
