import { formatSeconds } from '../format.js';

/** What a progress line tells. */
export interface ProgressState {
  readonly label: string;
  readonly done: number;
  /** 0 where it is not known. */
  readonly total: number;
  /** Short texts beside the count, the most important first. */
  readonly notes: readonly string[];
  /** Seconds that are left, where that can be told. */
  readonly left: number | undefined;
}

const kBarWidths = { least: 6, most: 24 };
const kGap = '  ';
/** Columns that stay free: for the cursor, and for the `^C` that a terminal writes. */
const kFree = 3;

/** The line for a terminal of `columns`: never longer than it shows, so that nothing wraps. What has no room is left out from the right; the bar takes what is free. */
export function barLine(state: ProgressState, columns: number): string {
  const { label, done, total, notes, left } = state;
  const room = Math.max(0, columns - kFree);
  const share = total > 0 ? Math.min(1, done / total) : 0;
  const eta = left === undefined ? [] : [`${formatSeconds(left)} left`];
  const texts = [`${done}/${total}`, ...eta, ...notes];
  let shown = texts.length;
  const textOf = (): string => texts.slice(0, shown).join(kGap);
  const barRoom = (): number => room - label.length - textOf().length - 2;
  while (shown > 1 && barRoom() < kBarWidths.least) shown--;
  const width = Math.min(kBarWidths.most, barRoom());
  if (width < kBarWidths.least) return `${label} ${texts[0]}`.slice(0, room);
  const filled = Math.round(width * share);
  return `${label} ${'█'.repeat(filled)}${'░'.repeat(width - filled)} ${textOf()}`;
}

/** The line where there is no terminal. */
export function plainLine({ label, done, total, notes, left }: ProgressState): string {
  const count = total === 0 ? `${label} ${done}` : `${label} ${done}/${total}`;
  return [count, ...notes, ...(left === undefined ? [] : [`${formatSeconds(left)} left`])].join(kGap);
}
