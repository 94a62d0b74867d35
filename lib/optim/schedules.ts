import { InvalidArgumentError } from '../errors.js';

/** Factor of the learning rate for the update with this number, counted from 0. */
export type Schedule = (step: number) => number;

/** Always 1. */
export function constantSchedule(): Schedule {
  return () => 1;
}

export interface LinearOptions {
  /** Updates in all. */
  readonly steps: number;
  /** Factor at the end. Default 0. */
  readonly end?: number;
}

/** Falls on a straight line from 1 at step 0 to `end` at `steps`, and stays there. */
export function linearSchedule({ steps, end = 0 }: LinearOptions): Schedule {
  checkSteps('linearSchedule', steps);
  return (step) => 1 + (end - 1) * Math.min(1, step / steps);
}

export interface CosineOptions extends LinearOptions {
  /** Half waves gone through: 0.5 falls once from 1 to `end`. Default 0.5. */
  readonly cycles?: number;
}

/** Falls on half a cosine from 1 at step 0 to `end` at `steps`. */
export function cosineSchedule({ steps, end = 0, cycles = 0.5 }: CosineOptions): Schedule {
  checkSteps('cosineSchedule', steps);
  return (step) => end + (1 - end) * 0.5 * (1 + Math.cos(Math.PI * cycles * 2 * Math.min(1, step / steps)));
}

/** Rises on a straight line from 0 at step 0 to 1 at `steps`, then follows `after`, which counts from there. `steps` 0 is `after` itself. */
export function warmupSchedule(steps: number, after: Schedule = constantSchedule()): Schedule {
  if (!(Number.isInteger(steps) && steps >= 0)) {
    throw new InvalidArgumentError(`warmupSchedule: the number of steps must be a whole number from 0; got ${steps}`);
  }
  return (step) => (step < steps ? step / steps : after(step - steps));
}

export interface StableOptions {
  /** Updates at 1. */
  readonly stable: number;
  /** Updates of the fall that follows. */
  readonly decay: number;
  /** Factor at the end. Default 0. */
  readonly end?: number;
}

/** Stays at 1, then falls on a straight line to `end`: warm-up, stable, decay when put behind a {@link warmupSchedule}. */
export function stableDecaySchedule({ stable, decay, end = 0 }: StableOptions): Schedule {
  checkSteps('stableDecaySchedule', decay);
  const fall = linearSchedule({ steps: decay, end });
  return (step) => (step < stable ? 1 : fall(step - stable));
}

export interface OneCycleOptions {
  /** Updates in all. */
  readonly steps: number;
  /** Share of the updates that rise. Default 0.3. */
  readonly rise?: number;
  /** The first factor is 1 / startDivisor. Default 25. */
  readonly startDivisor?: number;
  /** The last factor is 1 / (startDivisor · endDivisor). Default 1e4. */
  readonly endDivisor?: number;
}

/** Rises on half a cosine to 1 over the first part and falls on another to nearly 0 ("Super-Convergence"). */
export function oneCycleSchedule({ steps, rise = 0.3, startDivisor = 25, endDivisor = 1e4 }: OneCycleOptions): Schedule {
  checkSteps('oneCycleSchedule', steps);
  if (!(rise > 0 && rise < 1)) throw new InvalidArgumentError(`oneCycleSchedule: rise must lie between 0 and 1; got ${rise}`);
  const start = 1 / startDivisor;
  const end = start / endDivisor;
  const peak = rise * steps - 1;
  const between = (from: number, to: number, share: number): number => to + ((from - to) / 2) * (1 + Math.cos(Math.PI * share));
  return (step) => {
    const at = Math.min(step, steps - 1);
    return at <= peak ? between(start, 1, peak > 0 ? at / peak : 1) : between(1, end, (at - peak) / (steps - 1 - peak));
  };
}

function checkSteps(name: string, steps: number): void {
  if (!(steps > 0)) throw new InvalidArgumentError(`${name}: the number of steps must be above 0; got ${steps}`);
}
