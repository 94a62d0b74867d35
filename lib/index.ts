export * from './errors.js';
export type { DeviceStatus } from './device.js';
export { devices, isaLevel, setThreads, threads } from './device.js';
export { checkpoint, customGrad } from './gradient.js';
export { disposeTensors, keep, memory, noGrad, resetPeakMemory, scope, setMemoryLimit, synchronize, trimMemory, unscoped } from './scope.js';
export { manualSeed, randomState, setRandomState } from './random.js';
export type { Draw, RandomState } from './random.js';
export { Tensor } from './tensor.js';
export type { Device, DType, TensorData } from './tensor.js';
