export { AtomicFile, writeFileAtomically } from './atomic-file.js';
export type { ByteSource } from './byte-source.js';
export type { ChatMessage, ChatTemplateOptions } from './chat-template.js';
export { type GgufModel, readGguf, readGgufModel } from './gguf.js';
export type { GgufValue } from './gguf/cursor.js';
export { type GgufHeader, type GgufTensor, parseGguf } from './gguf/parser.js';
export type { GgufType } from './gguf/types.js';
export { type HubOptions, type HubProgress, downloadModel, isHubId } from './hub.js';
export {
  type AdapterFiles,
  type GgufFiles,
  type HubModel,
  type HuggingFaceFiles,
  type ModelFiles,
  type PlainSafetensors,
  identifyModel,
  isAdapterFolder,
  readAdapterFolder,
  resolveModel,
} from './model-files.js';
export { loadSafetensors, saveSafetensors } from './safetensors.js';
export { type SafetensorsFiles, type StoredTensor, readSafetensorsFiles, readSafetensorsHeader } from './safetensors-files.js';
export { type SafetensorsDtype, type SafetensorsEntry, type SafetensorsHeader, parseSafetensorsHeader } from './safetensors-header.js';
export { type TensorBytes, writeSafetensors } from './safetensors-writer.js';
export type { TokenStream } from './token-stream.js';
export { type DecodeOptions, type EncodeOptions, Tokenizer } from './tokenizer.js';
export { type TokenizerData, readTokenizerFolder } from './tokenizer-data.js';
export { type Weights, ggufWeights, safetensorsWeights } from './weights.js';
