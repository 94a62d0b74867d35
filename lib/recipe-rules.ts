/** Keys of `training` that only some optimizers and schedules have. */
const kBelongs: Readonly<Record<string, { readonly to: 'optimizer' | 'schedule'; readonly names: readonly string[] }>> = {
  betas: { to: 'optimizer', names: ['adamw', 'adamw-8bit', 'lion'] },
  eps: { to: 'optimizer', names: ['adamw', 'adamw-8bit'] },
  momentum: { to: 'optimizer', names: ['sgd'] },
  minimumRate: { to: 'schedule', names: ['linear', 'cosine', 'wsd'] },
  decayShare: { to: 'schedule', names: ['wsd'] },
};

/** Settings that would have no effect: each with what was expected. */
export function checkTraining(training: Readonly<Record<string, unknown>>): { readonly key: string; readonly message: string }[] {
  return Object.entries(kBelongs).flatMap(([key, { to, names }]) => {
    if (training[key] === undefined || names.includes(String(training[to]))) return [];
    return [{ key, message: `expected it only with ${to} ${names.join(' or ')}; the ${to} is ${training[to]}` }];
  });
}
