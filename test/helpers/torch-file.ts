// Files of torch.save put together byte by byte, for what no program would write.

/** What a zip archive of stored files can be told wrong. */
export interface ZipLies {
  readonly method?: number;
  /** Size that the directory says of every file. */
  readonly size?: number;
  /** Offset that the directory says of every file. */
  readonly offset?: number;
}

/** A zip archive with stored files. */
export function storedZip(files: readonly (readonly [name: string, content: Uint8Array])[], lies: ZipLies = {}): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let at = 0;
  for (const [name, content] of files) {
    const title = Buffer.from(name);
    const local = Buffer.alloc(30);
    local.writeUInt32LE(0x04034b50, 0);
    local.writeUInt16LE(title.length, 26);
    const central = Buffer.alloc(46);
    central.writeUInt32LE(0x02014b50, 0);
    central.writeUInt16LE(lies.method ?? 0, 10);
    central.writeUInt32LE(lies.size ?? content.length, 20);
    central.writeUInt32LE(lies.size ?? content.length, 24);
    central.writeUInt16LE(title.length, 28);
    central.writeUInt32LE(lies.offset ?? at, 42);
    directory.push(central, title);
    parts.push(local, title, Buffer.from(content));
    at += local.length + title.length + content.length;
  }
  const central = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(files.length, 8);
  end.writeUInt16LE(files.length, 10);
  end.writeUInt32LE(central.length, 12);
  end.writeUInt32LE(at, 16);
  return Buffer.concat([...parts, central, end]);
}

const word = (text: string): string => {
  const length = Buffer.alloc(4);
  length.writeUInt32LE(text.length);
  return `X${length.toString('latin1')}${text}`;
};
const whole = (value: number): string => {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return `J${bytes.toString('latin1')}`;
};

export interface PickledFields {
  readonly type?: string;
  readonly key?: string;
  readonly elements?: number;
  readonly offset?: number;
  readonly shape?: readonly number[];
  readonly strides?: readonly number[];
  /** The instructions in front of the tensor, and those in place of the call that makes it. */
  readonly before?: string;
  readonly call?: string;
}

/** The pickle of a dictionary with one tensor "x" of two floats, but for what is told. */
export function tensorPickle(fields: PickledFields = {}): Buffer {
  const { type = 'FloatStorage', key = '0', elements = 2, offset = 0, shape = [2], strides = [1], before = '', call = 'R' } = fields;
  const list = (values: readonly number[]): string => `(${values.map(whole).join('')}t`;
  const id = `(${word('storage')}ctorch\n${type}\n${word(key)}${word('cpu')}${whole(elements)}tQ`;
  const tensor = `ctorch._utils\n_rebuild_tensor_v2\n(${id}${whole(offset)}${list(shape)}${list(strides)}\x89ccollections\nOrderedDict\n)Rt${call}`;
  return Buffer.from(`\x80\x02}${before}${word('x')}${tensor}s.`, 'latin1');
}

/** The archive of such a pickle, with a storage of `bytes` bytes. */
export const torchArchive = (
  pickle: Uint8Array,
  bytes = 8,
  more: readonly (readonly [string, Uint8Array])[] = [],
  lies?: ZipLies,
): Buffer => storedZip([['archive/data.pkl', pickle], ['archive/data/0', new Uint8Array(bytes)], ...more], lies);
