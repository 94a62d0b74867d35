export { AtomicFile, writeFileAtomically } from './atomic-file.js';
export type { ByteSource } from './byte-source.js';
export type { ChatMessage, ChatTemplateOptions } from './chat-template.js';
export { type DetectedDialect, detectDialect } from './dialects/detect.js';
export { type Dialect, dialects, type PortableAdapter, type PortablePair } from './dialects/portable.js';
export { type ReadAdapter, type ReadAdapterOptions, readAdapter } from './dialects/read.js';
export { type WriteAdapterOptions, writeAdapter } from './dialects/write.js';
export type { GgufValue } from './gguf/cursor.js';
export type { GgufField } from './gguf/encoder.js';
export { type GgufHeader, type GgufTensor, parseGguf } from './gguf/parser.js';
export type { GgufType } from './gguf/types.js';
export { type GgufTensorBytes, writeGguf } from './gguf/writer.js';
export { type SaveGgufOptions, saveGguf } from './gguf/writer-model.js';
export { type GgufModel, readGguf, readGgufModel } from './gguf.js';
export { downloadModel, type HubOptions, type HubProgress, isHubId } from './hub.js';
export {
  type AdapterFiles,
  type GgufFiles,
  type HubModel,
  type HuggingFaceFiles,
  identifyModel,
  isAdapterFolder,
  type ModelFiles,
  type PlainSafetensors,
  readAdapterFolder,
  resolveModel,
} from './model-files.js';
export { type ConvertedMttl, type ConvertMttlOptions, convertMttl, writeMttl } from './mttl-poly.js';
export { type ConvertedHydra, type ConvertHydraOptions, convertHydra, type HydraLayout } from './published-hydra.js';
export { type ConvertPetlAstOptions, convertPetlAst } from './published-petl-ast.js';
export { loadSafetensors, saveSafetensors } from './safetensors.js';
export { readSafetensorsFiles, readSafetensorsHeader, type SafetensorsFiles, type StoredTensor } from './safetensors-files.js';
export { parseSafetensorsHeader, type SafetensorsDtype, type SafetensorsEntry, type SafetensorsHeader } from './safetensors-header.js';
export { type TensorBytes, writeSafetensors } from './safetensors-writer.js';
export type { TokenStream } from './token-stream.js';
export { type DecodeOptions, type EncodeOptions, Tokenizer } from './tokenizer.js';
export { readTokenizerFolder, type TokenizerData } from './tokenizer-data.js';
export { ggufWeights, safetensorsWeights, type Weights } from './weights.js';
