import { type Profile, type ProfiledOp, profile } from 'lorikeet';

/**
 * Profiles the same work `count` times and keeps, for each op and each pause before one, the fastest run: what the work takes without what else runs on the machine.
 * Throws when the runs differ in their ops.
 */
export async function fastestProfile(work: () => Promise<unknown>, count: number): Promise<Profile<undefined>> {
  const runs: Profile<unknown>[] = [];
  for (let i = 0; i < count; i++) runs.push(await profile(work));
  return combine(runs);
}

/** The fastest of each op and each pause of several profiles of the same work. */
export function combine(runs: readonly Profile<unknown>[]): Profile<undefined> {
  const [first] = runs;
  if (first === undefined) throw new Error('profile: there is no run; expected at least 1');
  let end = 0;
  const ops = first.ops.map((op, i): ProfiledOp => {
    const same = runs.map((run) => run.ops[i]);
    if (same.some((other) => other?.name !== op.name))
      throw new Error(`profile: the runs differ at op ${i}; got ${same.map((other) => other?.name)}`);
    const pauses = runs.map((run) => pauseBefore(run.ops, i));
    const start = end + Math.min(...pauses);
    const ms = Math.min(...same.map((other) => other?.ms ?? op.ms));
    end = start + ms;
    return { ...op, start, ms };
  });
  return { result: undefined, ops, ms: end };
}

function pauseBefore(ops: readonly ProfiledOp[], i: number): number {
  const before = ops[i - 1];
  return Math.max(0, (ops[i]?.start ?? 0) - (before ? before.start + before.ms : 0));
}
