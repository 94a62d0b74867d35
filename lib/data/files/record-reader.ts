import type { Row } from '../row.js';
import { type RawLine, readLineBlocks } from './lines.js';

/** A row that was found but not parsed yet. */
export interface FoundRow {
  readonly where: string;
  /** Throws `FormatError` naming the row where it is broken. */
  parse(): Row;
}

/** A record of a text file: a row and its place. */
export interface FoundRecord extends FoundRow {
  /** Byte in the file at which its first line begins. */
  readonly offset: number;
  /** Number of its first line, from 1. */
  readonly line: number;
}

/** Puts the lines of one file together to records; reading a file from end to end and finding single rows by their place both use it. */
export interface RecordReader {
  /** The record that this line completes, if any. Throws `FormatError` for what spoils the whole file. */
  push(line: RawLine): FoundRecord | undefined;
  /** Throws `FormatError` where the file ends inside a record. */
  end(): void;
  /** A reader for single records of the same file. */
  again(): RecordReader;
}

/** The records of a whole file, those of one piece at a time. */
export async function* readRecordBlocks(path: string, reader: RecordReader, signal?: AbortSignal): AsyncGenerator<FoundRecord[]> {
  for await (const lines of readLineBlocks(path, signal)) {
    const records: FoundRecord[] = [];
    for (const line of lines) {
      const record = reader.push(line);
      if (record !== undefined) records.push(record);
    }
    yield records;
  }
  reader.end();
}

/** The records of a whole file. */
export async function* readRecords(path: string, reader: RecordReader, signal?: AbortSignal): AsyncGenerator<FoundRecord> {
  for await (const records of readRecordBlocks(path, reader, signal)) yield* records;
}

/** A reader of files in which every line that is not blank is a row; `parse` makes it of the line. */
export function lineReader(path: string, isRow: (line: RawLine) => boolean, parse: (line: RawLine, where: string) => Row): RecordReader {
  const reader: RecordReader = {
    push(line) {
      if (!isRow(line)) return undefined;
      const where = `${path}:${line.number}`;
      return { where, offset: line.offset, line: line.number, parse: () => parse(line, where) };
    },
    end: () => undefined,
    again: () => reader,
  };
  return reader;
}
