// Runs cycles for some minutes and judges what they left behind.
import { performance } from 'node:perf_hooks';
import { cycle } from './cycle.mjs';
import { growth, median } from './flat.mjs';
import { usage } from './usage.mjs';
import { variants } from './work.mjs';

const mebibyte = 2 ** 20;
/**
 * Growth over the second half that is no leak. Counts, and bytes of tensors, are exact: nothing may stay. The JavaScript heap keeps compiled code and feedback
 * of functions, which is still filling in short runs. The process also holds what allocators keep: pieces of V8 heaps and of malloc arenas of worker
 * threads that come and go. A model that is not released is 1 MiB a cycle, far above both.
 */
const allowed = { tensors: 0, nativeBytes: 0, files: 0, threads: 0, handles: 0, listeners: 0, heapUsed: 2, external: 2, rss: 12 };
const inMebibytes = new Set(['heapUsed', 'external', 'rss']);
/** Fewer measurements say nothing about a half. */
const fewest = 12;

/** Small generator of numbers in [0, 1) (mulberry32), so that a soak can be repeated. */
function randomFrom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Compares the results of a cycle with those its variant gave first. */
function differences(first, { results }, number) {
  const key = number % variants.length;
  first[key] ??= { ...results, worker: results.bits };
  const known = first[key];
  return Object.keys(known)
    .filter((name) => known[name] !== results[name])
    .map((name) => `cycle ${number}: ${name} of variant ${key} differs; got ${results[name]}, expected ${known[name]}`);
}

function line(number, minutes, begin, last) {
  const { rss, heapUsed, nativeBytes, tensors, files, threads } = last;
  const size = (bytes) => `${(bytes / mebibyte).toFixed(1)} MiB`;
  const time = ((performance.now() - begin) / 60_000).toFixed(1);
  return `cycle ${number}  ${time}/${minutes} min  process ${size(rss)}  heap ${size(heapUsed)}  native ${size(nativeBytes)} in ${tensors} tensors  ${files} files  ${threads} threads`;
}

export async function soakCycles(minutes, seed) {
  if (globalThis.gc === undefined) throw new Error('soak: run node with --expose-gc');
  const random = randomFrom(seed);
  const { signal } = new AbortController();
  const begin = performance.now();
  const samples = [];
  const problems = [];
  const aborts = {};
  const first = {};
  let told = 0;
  let number = 0;
  for (; performance.now() - begin < minutes * 60_000; number++) {
    const done = await cycle(number, random, signal);
    problems.push(...differences(first, done, number));
    const { moment, cancelled } = done;
    aborts[moment] = (aborts[moment] ?? 0) + (cancelled ? 1 : 0);
    samples.push(await usage(signal));
    if (performance.now() - told > 5000) {
      told = performance.now();
      console.error(line(number + 1, minutes, begin, samples.at(-1)));
    }
  }
  if (samples.length < fewest) problems.push(`only ${samples.length} cycles were run, expected at least ${fewest}; give it more minutes`);
  const grown = {};
  const medians = {};
  for (const [name, limit] of Object.entries(allowed)) {
    const values = samples.map((sample) => sample[name]);
    const unit = inMebibytes.has(name) ? mebibyte : 1;
    grown[name] = Number((growth(values) / unit).toFixed(3));
    medians[name] = quarters(values).map((quarter) => Number((median(quarter) / unit).toFixed(3)));
    if (grown[name] > limit)
      problems.push(`${name} grew by ${grown[name]}${unit === 1 ? '' : ' MiB'} in the second half, expected at most ${limit}`);
  }
  const rare = ['data', 'step', 'evaluation', 'save'].filter((moment) => aborts[moment] === 0);
  if (rare.length > 0) problems.push(`no abort took effect at: ${rare.join(', ')}`);
  return { result: { minutes, seed, cycles: number, aborts, growth: grown, quarters: medians }, problems: problems.slice(0, 20) };
}

function quarters(values) {
  const at = (part) => Math.floor((values.length * part) / 4);
  return [0, 1, 2, 3].map((part) => values.slice(at(part), Math.max(at(part + 1), at(part) + 1)));
}
