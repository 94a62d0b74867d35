export { labelRuns, type NamedRun, renderComparePage } from './compare-page.js';
export { EventFile, eventFiles } from './event-file.js';
export { type RunData, readRun } from './read-run.js';
export { type RecipeDifference, recipeDifferences } from './recipe-differences.js';
export { renderRunPage } from './run-page.js';
export { bestMeasure, type RunSummary, summarize } from './summary.js';
