import { z } from 'zod';
import type { Profile } from '../profile.js';
import { opWork } from '../report/op-work.js';

/** What a machine reaches at best, measured. */
export interface Roofline {
  /** GFLOP/s by precision, all threads. */
  readonly gflops: { readonly f32: number; readonly bf16: number };
  /** GB/s of memory, all threads. */
  readonly gigabytesPerSecond: number;
}

/** All runs of one op in one direction. */
export const profileRow = z.strictObject({
  op: z.string(),
  calls: z.int(),
  ms: z.number(),
  percent: z.number().describe('of the whole time'),
  gflops: z.number(),
  gigabytesPerSecond: z.number(),
  floorMs: z.number().describe('milliseconds that the roofline allows at least, for the sum of the calls'),
  percentOfRoofline: z.number().describe('floorMs of ms'),
  adapterGflop: z.number().describe('the part of adapters in the work'),
});

export type ProfileRow = z.output<typeof profileRow>;

/** Groups a profile by op, the longest first; the last row is the time between ops. */
export function profileRows(profile: Profile<unknown>, roofline: Roofline): ProfileRow[] {
  const groups = new Map<string, { calls: number; ms: number; flops: number; adapter: number; bytes: number; floor: number }>();
  let busy = 0;
  for (const op of profile.ops) {
    const key = op.backward && !op.name.endsWith(' backward') ? `${op.name} backward` : op.name;
    const group = groups.get(key) ?? { calls: 0, ms: 0, flops: 0, adapter: 0, bytes: 0, floor: 0 };
    const work = opWork(op);
    const flops = work.flops + work.adapterFlops;
    group.calls++;
    group.ms += op.ms;
    group.flops += flops;
    group.adapter += work.adapterFlops;
    group.bytes += work.bytes;
    group.floor += Math.max(flops / roofline.gflops[work.dtype], work.bytes / roofline.gigabytesPerSecond) / 1e6;
    busy += op.ms;
    groups.set(key, group);
  }
  const share = (part: number, whole: number): number => (whole > 0 ? (100 * part) / whole : 0);
  const rows = [...groups].map(([op, { calls, ms, flops, adapter, bytes, floor }]) => ({
    op,
    calls,
    ms,
    percent: share(ms, profile.ms),
    gflops: ms > 0 ? flops / ms / 1e6 : 0,
    gigabytesPerSecond: ms > 0 ? bytes / ms / 1e6 : 0,
    floorMs: floor,
    percentOfRoofline: share(floor, ms),
    adapterGflop: adapter / 1e9,
  }));
  rows.sort((a, b) => b.ms - a.ms);
  const idle = Math.max(0, profile.ms - busy);
  const none = { gflops: 0, gigabytesPerSecond: 0, floorMs: 0, percentOfRoofline: 0, adapterGflop: 0 };
  return [...rows, { op: '(between ops)', calls: profile.ops.length, ms: idle, percent: share(idle, profile.ms), ...none }];
}

/** The rows as aligned text. */
export function profileText(rows: readonly ProfileRow[]): string {
  const header = ['op', 'calls', 'ms', '% of time', 'GFLOP/s', 'GB/s', 'floor ms', '% of roofline', 'adapter GFLOP'];
  const body = rows.map((row) => [
    row.op,
    String(row.calls),
    row.ms.toFixed(2),
    row.percent.toFixed(1),
    row.gflops.toFixed(1),
    row.gigabytesPerSecond.toFixed(1),
    row.floorMs.toFixed(2),
    row.percentOfRoofline.toFixed(0),
    row.adapterGflop.toFixed(2),
  ]);
  const widths = header.map((title, i) => Math.max(title.length, ...body.map((cells) => cells[i]?.length ?? 0)));
  return [header, ...body]
    .map((cells) => cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join('  '))
    .join('\n');
}
