// Reads a ClientHello (RFC 8446 section 4.1.2) from the bytes of a connection, however they are cut into segments and
// records. Pure: bytes in, what it says out. The caller keeps the bytes.
import { canonicalHost } from "../../http/target.ts";

export type ClientHelloResult =
  | { readonly done: false }
  | {
      readonly done: true;
      /** The server name in canonical form; null: none was sent. */
      readonly sni: string | null;
      readonly alpn: readonly string[];
      /** True when the encrypted_client_hello extension is there (many clients send a dummy one). */
      readonly ech: boolean;
    }
  | { readonly error: string };

/** Bytes of records that we read before we give up. */
export const MAX_HELLO_BYTES = 32 * 1024;

const NO_BYTES = Buffer.alloc(0);
const MORE: ClientHelloResult = Object.freeze({ done: false });
const HANDSHAKE_RECORD = 22;
const CLIENT_HELLO = 1;
const MAX_RECORD = 16_384;
const EXTENSION = { serverName: 0, alpn: 16, encryptedClientHello: 0xfe0d } as const;

class Malformed extends Error {}

export class ClientHelloReader {
  /** Bytes of the record that is not complete yet, header included. */
  #record: Buffer = NO_BYTES;
  /** The handshake message so far. */
  #message: Buffer = NO_BYTES;
  #read = 0;
  #result: ClientHelloResult = MORE;

  /** Takes the next bytes. After a final result further bytes change nothing. */
  push(bytes: Uint8Array): ClientHelloResult {
    if (this.#result !== MORE) return this.#result;
    const first = this.#read === 0;
    this.#read += bytes.length;
    // Nearly every ClientHello comes in one piece, and is read where it lies.
    this.#record = first
      ? Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
      : Buffer.concat([this.#record, bytes]);
    try {
      this.#result = this.#advance();
    } catch (error) {
      if (!(error instanceof Malformed)) throw error;
      this.#result = { error: error.message };
    }
    if (first && this.#result === MORE) {
      this.#record = Buffer.from(this.#record);
      this.#message = Buffer.from(this.#message);
    }
    return this.#result;
  }

  #advance(): ClientHelloResult {
    this.#takeRecords();
    const message = this.#message;
    if (message.length > 0 && message[0] !== CLIENT_HELLO)
      throw new Malformed("the first message is not a ClientHello");
    if (message.length >= 4) {
      const length = message.readUIntBE(1, 3);
      if (length > MAX_HELLO_BYTES) throw new Malformed("the ClientHello is too long");
      if (message.length >= 4 + length) return parseHello(new Cursor(message, 4, 4 + length));
    }
    if (this.#read > MAX_HELLO_BYTES) throw new Malformed("the ClientHello is too long");
    return MORE;
  }

  /** Moves the content of complete records to the message, and stops when the message is complete. */
  #takeRecords(): void {
    let at = 0;
    while (!this.#messageComplete() && checkRecord(this.#record, at)) {
      const end = at + 5 + this.#record.readUInt16BE(at + 3);
      if (end > this.#record.length) break;
      const content = this.#record.subarray(at + 5, end);
      this.#message = this.#message.length === 0 ? content : Buffer.concat([this.#message, content]);
      at = end;
    }
    if (at > 0) this.#record = this.#record.subarray(at);
  }

  #messageComplete(): boolean {
    return this.#message.length >= 4 && this.#message.length >= 4 + this.#message.readUIntBE(1, 3);
  }
}

/** True when a whole record header is there; throws as soon as its bytes cannot be one (RFC 8446 section 5.1). */
function checkRecord(bytes: Buffer, at: number): boolean {
  const type = bytes[at];
  const major = bytes[at + 1];
  if (type === undefined) return false;
  if ((type & 0x80) !== 0) throw new Malformed("an SSLv2 hello");
  if (type !== HANDSHAKE_RECORD) throw new Malformed("not a TLS handshake record");
  if (major !== undefined && major !== 3) throw new Malformed("not a TLS record version");
  if (bytes.length < at + 5) return false;
  const length = bytes.readUInt16BE(at + 3);
  if (length === 0) throw new Malformed("an empty handshake record");
  if (length > MAX_RECORD) throw new Malformed("a TLS record longer than the protocol allows");
  return true;
}

/** A reader over one vector; every step past its end is malformed. It moves through the bytes and copies none. */
class Cursor {
  readonly #bytes: Buffer;
  #at: number;
  readonly #end: number;

  constructor(bytes: Buffer, from: number, to: number) {
    this.#bytes = bytes;
    this.#at = from;
    this.#end = to;
  }

  get left(): number {
    return this.#end - this.#at;
  }

  /** Moves past `count` bytes; where they begin. */
  skip(count: number): number {
    if (count > this.left) throw new Malformed("the ClientHello is cut short");
    this.#at += count;
    return this.#at - count;
  }

  number(size: 1 | 2): number {
    const at = this.skip(size);
    return size === 1 ? (this.#bytes[at] as number) : this.#bytes.readUInt16BE(at);
  }

  /** A reader over the content of a vector whose length stands in `size` bytes. */
  vector(size: 1 | 2): Cursor {
    const length = this.number(size);
    const from = this.skip(length);
    return new Cursor(this.#bytes, from, from + length);
  }

  /** What is left, where it lies. */
  rest(): Buffer {
    return this.#bytes.subarray(this.#at, this.#end);
  }
}

function parseHello(hello: Cursor): ClientHelloResult {
  hello.skip(2 + 32); // version, random
  if (hello.vector(1).left > 32) throw new Malformed("the session id is too long");
  hello.vector(2); // cipher suites, GREASE values among them
  hello.vector(1); // compression methods
  const found = { done: true as const, sni: null as string | null, alpn: [] as string[], ech: false };
  if (hello.left === 0) return found;
  const extensions = hello.vector(2);
  if (hello.left > 0) throw new Malformed("bytes after the extensions");
  const seen = new Set<number>();
  while (extensions.left > 0) {
    const type = extensions.number(2);
    const data = extensions.vector(2);
    // Two readers could take different ones (RFC 8446 section 4.2).
    if (seen.has(type)) throw new Malformed("an extension stands twice");
    seen.add(type);
    if (type === EXTENSION.serverName) found.sni = parseServerName(data);
    else if (type === EXTENSION.alpn) found.alpn = parseAlpn(data);
    else if (type === EXTENSION.encryptedClientHello) found.ech = true;
  }
  return found;
}

/** RFC 6066 section 3: one name of type host_name. */
function parseServerName(data: Cursor): string | null {
  const list = data.vector(2);
  if (data.left > 0) throw new Malformed("bytes after the server name list");
  let name: Buffer | null = null;
  while (list.left > 0) {
    const type = list.number(1);
    const value = list.vector(2);
    if (type !== 0) throw new Malformed("a server name of an unknown type");
    if (name !== null) throw new Malformed("two server names");
    name = value.rest();
  }
  if (name === null) throw new Malformed("an empty server name list");
  return canonicalName(name);
}

function canonicalName(name: Buffer): string {
  const ascii = name.length > 0 && name.every((byte) => byte > 0x20 && byte < 0x7f);
  const host = ascii ? canonicalHost(name.toString("latin1")) : null;
  if (host === null) throw new Malformed("the server name is not a host name");
  return host;
}

/** RFC 7301 section 3.1. GREASE values stay: who looks for a protocol does not find them. */
function parseAlpn(data: Cursor): string[] {
  const list = data.vector(2);
  const names: string[] = [];
  while (list.left > 0) names.push(list.vector(1).rest().toString("latin1"));
  return names;
}
