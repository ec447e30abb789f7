// Which fields the engine itself acts on, found by length first: most names need one table look-up and no comparison.

/** 0 none; 1 Host; 2 Content-Length; 3 Transfer-Encoding; 4 Connection and Proxy-Connection; 5 Expect; 6 Upgrade. */
export type FieldKind = 0 | 1 | 2 | 3 | 4 | 5 | 6;

const KNOWN: (readonly [Uint8Array, FieldKind][] | null)[] = new Array(64).fill(null);
const NAMES: readonly (readonly [string, FieldKind])[] = [
  ["host", 1],
  ["content-length", 2],
  ["transfer-encoding", 3],
  ["connection", 4],
  ["proxy-connection", 4],
  ["expect", 5],
  ["upgrade", 6],
];
for (const [name, kind] of NAMES) {
  KNOWN[name.length] = [...(KNOWN[name.length] ?? []), [Uint8Array.from(name, (c) => c.charCodeAt(0)), kind]];
}

/** The kind of the field name in `b[start..end)`. Names hold only letters and "-", so that `| 32` folds case without aliasing. */
export function kindOf(b: Uint8Array, start: number, end: number): FieldKind {
  const length = end - start;
  const list = length < 64 ? KNOWN[length] : null;
  if (!list) return 0;
  for (let l = 0; l < list.length; l++) {
    const [name, kind] = list[l] as [Uint8Array, FieldKind];
    let i = 0;
    while (i < length && ((b[start + i] as number) | 32) === name[i]) i++;
    if (i === length) return kind;
  }
  return 0;
}
