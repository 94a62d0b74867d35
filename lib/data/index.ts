export { type Batch, collate, kIgnored, targetCount } from './batch.js';
export { type DataSource, type Dataset, type DatasetOptions, loadDataset, readExamples } from './dataset.js';
export { encodeCompletion, encodeExample, type Sequence, type TextTokenizer } from './encode.js';
export { type ChatMessage, type Example, type ExampleFields, exampleOf } from './example.js';
export { RowOrder } from './order.js';
export { readRows } from './read-rows.js';
export type { Row } from './row.js';
export { permutation, philox } from './shuffle.js';
export type { ReadOptions } from './text.js';
