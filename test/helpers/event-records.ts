import { readFileSync } from 'node:fs';
import { crc32c, maskedCrc32c } from '#dist/report/crc32c.js';

/** What one record of an event file says. */
export interface EventRecord {
  step: number;
  wallTime: number;
  version?: string;
  /** True for the start of a session: what earlier files hold from this step on is void. */
  start?: boolean;
  scalars: Record<string, number>;
}

type Field = readonly [field: number, value: number | Buffer];

/** Reads an event file; throws for a wrong checksum or length. */
export function readEvents(file: string): EventRecord[] {
  const bytes = readFileSync(file);
  const records: EventRecord[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = Number(bytes.readBigUInt64LE(at));
    const body = bytes.subarray(at + 12, at + 12 + length);
    if (bytes.readUInt32LE(at + 8) !== maskedCrc32c(bytes.subarray(at, at + 8))) throw new Error('checksum of a length');
    if (bytes.readUInt32LE(at + 12 + length) !== maskedCrc32c(body)) throw new Error('checksum of a record');
    records.push(eventOf(body));
    at += 16 + length;
  }
  return records;
}

function eventOf(body: Buffer): EventRecord {
  const event: EventRecord = { step: 0, wallTime: 0, scalars: {} };
  for (const [field, value] of fieldsOf(body)) {
    if (field === 1) event.wallTime = (value as Buffer).readDoubleLE();
    else if (field === 2) event.step = value as number;
    else if (field === 3) event.version = String(value);
    else if (field === 5)
      Object.assign(event.scalars, Object.fromEntries(fieldsOf(value as Buffer).map(([, one]) => scalarOf(one as Buffer))));
    else if (field === 7) event.start = fieldsOf(value as Buffer).some(([inner, status]) => inner === 1 && status === 1);
  }
  return event;
}

function scalarOf(body: Buffer): [string, number] {
  const fields = new Map(fieldsOf(body));
  return [String(fields.get(1)), (fields.get(2) as Buffer).readFloatLE()];
}

/** Fields of a protobuf message: numbers for varints, bytes for the rest. */
function fieldsOf(message: Buffer): Field[] {
  const fields: Field[] = [];
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = message[at++] as number;
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  while (at < message.length) {
    const key = varint();
    const kind = key & 7;
    if (kind === 0) {
      fields.push([key >> 3, varint()]);
      continue;
    }
    const length = kind === 1 ? 8 : kind === 5 ? 4 : varint();
    fields.push([key >> 3, message.subarray(at, at + length)]);
    at += length;
  }
  return fields;
}

export { crc32c };
