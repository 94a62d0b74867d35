export { type Estimate, type EstimateInput, type EstimateOptions, estimate, type PeakBytes } from './estimate.js';
