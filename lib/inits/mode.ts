import type { Module } from '../nn/module.js';

/** Runs `work` with every module of the network in training mode, or out of it, and puts each back into its own. */
export async function inMode<T>(network: Module, training: boolean, work: () => Promise<T>): Promise<T> {
  const before = [...network.namedModules()].map(([, module]) => [module, module.training] as const);
  network.train(training);
  try {
    return await work();
  } finally {
    for (const [module, mode] of before) module.training = mode;
  }
}
