import { appendFileSync, readdirSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { writingSync } from '../io/io-error.js';
import { maskedCrc32c } from './crc32c.js';

/** Field numbers of the messages `Event`, `Summary.Value` and `SessionLog`. */
const kEvent = { wallTime: 1, step: 2, fileVersion: 3, summary: 5, sessionLog: 7 } as const;
const kSummary = { value: 1 } as const;
const kValue = { tag: 1, simpleValue: 2 } as const;
const kSessionLog = { status: 1 } as const;
const kSessionStart = 1;

/**
 * One TensorBoard event file: records of protobuf messages, each with its length and two checksums, appended as they come. A resumed run opens a file of its
 * own whose first record tells readers to forget what earlier files hold from `nextStep` on.
 */
export class EventFile {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  /** A new file in `folder`, sorted after those that are there. `nextStep` is the first step it will hold. */
  static create(folder: string, nextStep: number, now: number = Date.now() / 1000): EventFile {
    const latest = eventFiles(folder).map((name) => Number(/tfevents\.(\d+)\./.exec(name)?.[1] ?? 0));
    const stamp = Math.max(Math.floor(now), ...latest.map((seconds) => seconds + 1));
    const host = hostname().replaceAll(/[^\w-]/g, '-');
    const file = new EventFile(join(folder, `events.out.tfevents.${String(stamp).padStart(10, '0')}.${host}.${process.pid}.0`));
    const log = bytesField(kEvent.sessionLog, varintField(kSessionLog.status, kSessionStart));
    file.#append([
      eventRecord(now, 0, bytesField(kEvent.fileVersion, Buffer.from('brain.Event:2'))),
      ...(nextStep > 1 ? [eventRecord(now, nextStep, log)] : []),
    ]);
    return file;
  }

  /** Adds the values of one step, by tag; numbers are stored as float32. */
  add(step: number, scalars: Readonly<Record<string, number>>, now: number = Date.now() / 1000): void {
    this.#append([scalarRecord(now, step, scalars)]);
  }

  #append(records: readonly Buffer[]): void {
    writingSync(this.path, () => appendFileSync(this.path, Buffer.concat(records)));
  }
}

/** Names of the event files of a folder, oldest first. */
export function eventFiles(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => name.startsWith('events.out.tfevents.'))
    .sort();
}

/** One record with the finite ones of the scalars of a step. */
export function scalarRecord(wallTime: number, step: number, scalars: Readonly<Record<string, number>>): Buffer {
  const finite = Object.entries(scalars).filter(([, value]) => Number.isFinite(value));
  const values = finite.map(([tag, value]) =>
    bytesField(kSummary.value, Buffer.concat([bytesField(kValue.tag, Buffer.from(tag)), floatField(kValue.simpleValue, value)])),
  );
  return eventRecord(wallTime, step, bytesField(kEvent.summary, Buffer.concat(values)));
}

function eventRecord(wallTime: number, step: number, content: Buffer): Buffer {
  const time = Buffer.alloc(9);
  time[0] = (kEvent.wallTime << 3) | 1;
  time.writeDoubleLE(wallTime, 1);
  return record(Buffer.concat([time, ...(step === 0 ? [] : [varintField(kEvent.step, step)]), content]));
}

/** u64 length, masked checksum of the length, the bytes, masked checksum of the bytes; all little-endian. */
function record(bytes: Buffer): Buffer {
  const head = Buffer.alloc(12);
  head.writeBigUInt64LE(BigInt(bytes.length), 0);
  head.writeUInt32LE(maskedCrc32c(head.subarray(0, 8)), 8);
  const tail = Buffer.alloc(4);
  tail.writeUInt32LE(maskedCrc32c(bytes), 0);
  return Buffer.concat([head, bytes, tail]);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
  return Buffer.from([...bytes, rest]);
}

function varintField(field: number, value: number): Buffer {
  return Buffer.concat([varint(field << 3), varint(value)]);
}

function bytesField(field: number, bytes: Buffer): Buffer {
  return Buffer.concat([varint((field << 3) | 2), varint(bytes.length), bytes]);
}

function floatField(field: number, value: number): Buffer {
  const bytes = Buffer.alloc(5);
  bytes[0] = (field << 3) | 5;
  bytes.writeFloatLE(value, 1);
  return bytes;
}
