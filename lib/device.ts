import { op } from './native.js';
import type { Device } from './native-ops.js';

const cudaReason = op('cudaUnavailableReason');
const cudaDescription = op('cudaDescription');
const isaLevelOp = op('isaLevel');
const machineIsaLevelOp = op('machineIsaLevel');
const threadsOp = op('threads');
const setThreadsOp = op('setThreads');

export interface DeviceStatus {
  readonly device: Device;
  readonly available: boolean;
  /** What the device is, or why it cannot be used. */
  readonly detail: string;
}

/** The devices this build knows, with what they are or why they cannot be used. Never throws. */
export function devices(): DeviceStatus[] {
  const reason = cudaReason();
  const cpu = `${threadsOp()} threads, ${isaLevelOp()} kernels (machine: ${machineIsaLevelOp()})`;
  return [
    { device: 'cpu', available: true, detail: cpu },
    { device: 'cuda', available: reason === '', detail: reason === '' ? cudaDescription() : reason },
  ];
}

/** The instruction level of the CPU kernels in force: `scalar`, `avx2`, `avx512`, `avx512-bf16` or `amx-bf16`; on
 * Arm `scalar` or `neon`. LORIKEET_MAX_ISA lowers it. */
export function isaLevel(): string {
  return isaLevelOp();
}

/** Threads that compute, the engine thread included. */
export function threads(): number {
  return threadsOp();
}

/** Sets the number of computing threads, 1 to 1024. Results do not depend on it. */
export function setThreads(count: number): void {
  setThreadsOp(count);
}
