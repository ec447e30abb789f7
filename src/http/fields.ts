// Field lists (RFC 9110 section 5) stay flat: [name, value, name, value], as the parser yields them, in order and case.

/** A flat list: name, value, name, value … Names keep their case; compare them with `sameName`. */
export type Fields = string[];

/** True when two field names are equal without regard to case (RFC 9110 section 5.1). */
export const sameName = (a: string, b: string): boolean => a.length === b.length && a.toLowerCase() === b.toLowerCase();

/** True when the field has that name; `lower`: in lower case. Makes no copy, as this is asked many times for each message. */
export function isNamed(field: string, lower: string): boolean {
  const { length } = lower;
  if (field.length !== length) return false;
  for (let i = 0; i < length; i++) {
    const c = field.charCodeAt(i);
    const wanted = lower.charCodeAt(i);
    if (c !== wanted && (c + 32 !== wanted || c < 65 || c > 90)) return false;
  }
  return true;
}

/** The first value of the field, or null. `name` in lower case. */
export function firstValue(fields: Fields, name: string): string | null {
  for (let i = 0; i < fields.length; i += 2) {
    if (isNamed(fields[i] as string, name)) return fields[i + 1] as string;
  }
  return null;
}

/** All values of the field, in order. `name` in lower case. */
export function allValues(fields: Fields, name: string): string[] {
  const values: string[] = [];
  for (let i = 0; i < fields.length; i += 2) {
    if (isNamed(fields[i] as string, name)) values.push(fields[i + 1] as string);
  }
  return values;
}

/** Removes every field of that name, in place. `name` in lower case. Returns how many went. */
export function removeField(fields: Fields, name: string): number {
  let kept = 0;
  for (let i = 0; i < fields.length; i += 2) {
    const f = fields[i] as string;
    if (isNamed(f, name)) continue;
    fields[kept] = f;
    fields[kept + 1] = fields[i + 1] as string;
    kept += 2;
  }
  const removed = (fields.length - kept) / 2;
  if (removed > 0) fields.length = kept; // setting it is slow, also where nothing changes
  return removed;
}

/** Sets the field: the first of that name gets the value (and its place), others go; none: it is appended. */
export function setField(fields: Fields, name: string, value: string): void {
  const lower = name.toLowerCase();
  for (let i = 0; i < fields.length; i += 2) {
    if (!isNamed(fields[i] as string, lower)) continue;
    const rest = fields.splice(i + 2);
    removeField(rest, lower);
    fields[i + 1] = value;
    for (const x of rest) fields.push(x);
    return;
  }
  fields.push(name, value);
}
