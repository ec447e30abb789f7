// Field edits of the decision: set, append, remove, on requests and responses. Secrets were put in when the policy was loaded.
import type { Stage } from "../exchange/stage.ts";
import { type Fields, firstValue, removeField, setField } from "../http/fields.ts";
import type { FieldEdit } from "../policy/types.ts";

export const injectStage: Stage = {
  name: "inject",
  onRequest(x) {
    const edits = x.decision?.plan.requestEdits;
    if (edits !== undefined && edits.length > 0) apply(x.forward.fields, edits);
    return null;
  },
  onResponse(x, response) {
    const edits = x.decision?.plan.responseEdits;
    if (edits !== undefined && edits.length > 0) apply(response.fields, edits);
    return null;
  },
  /** What the rule removes or sets must not show in an informational response; nothing is added to one. */
  onInterim(x, { fields }) {
    for (const edit of x.decision?.plan.responseEdits ?? []) {
      const name = edit.name.toLowerCase();
      if (edit.op === "remove") removeField(fields, name);
      else if (edit.op === "set" && firstValue(fields, name) !== null) setField(fields, edit.name, edit.value);
    }
  },
};

function apply(fields: Fields, edits: readonly FieldEdit[]): void {
  for (const edit of edits) {
    if (edit.op === "remove") removeField(fields, edit.name.toLowerCase());
    else if (edit.op === "set") setField(fields, edit.name, edit.value);
    else fields.push(edit.name, edit.value);
  }
}
