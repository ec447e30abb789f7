// What a record keeps of a body in a coding. The redaction of records reads bytes as they are, so a coded body is opened first: one
// that holds a secret of the configuration, or that nobody can read, is not written.
import type { RecordedBody } from "../audit/record.ts";
import { codingsOf, type Unpacker } from "../filters/decoder.ts";
import { allValues, type Fields } from "../http/fields.ts";
import type { KnownSecrets } from "../shared/known-secrets.ts";

/** Plain bytes that are looked through: so many for each that was kept, within bounds. */
const RATIO = 16;
const LEAST = 1024 * 1024;
const MOST = 8 * LEAST;

export const WITHHELD: RecordedBody = Object.freeze({ base64: "", whole: false });

/** The body as it may be written, or `WITHHELD`. `fields`: of its message. */
export function recordable(
  body: RecordedBody,
  fields: Fields,
  secrets: KnownSecrets,
  unpacker: Unpacker | null,
): RecordedBody {
  if (secrets.none || body.base64 === "") return body;
  const codings = codingsOf(allValues(fields, "content-encoding"));
  if (codings.length === 0) return body;
  const coded = Buffer.from(body.base64, "base64");
  const limit = Math.min(MOST, Math.max(LEAST, coded.length * RATIO));
  const plain = unpacker?.unpack(codings, coded, !body.whole, limit) ?? null;
  if (plain === null) return WITHHELD;
  const text = Buffer.from(plain.buffer, plain.byteOffset, plain.byteLength).toString("latin1");
  const safe = body.whole ? secrets.redact(text) : secrets.redactCut(text);
  return safe === text ? body : WITHHELD;
}
