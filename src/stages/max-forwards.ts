// Max-Forwards (RFC 9110 section 7.6.2): an OPTIONS that has come far enough is answered here. TRACE never goes on at all.
import type { Exchange } from "../exchange/exchange.ts";
import type { Stage, StageResult } from "../exchange/stage.ts";

export const maxForwardsStage: Stage = {
  name: "max forwards",
  onRequest(x: Exchange): StageResult {
    if (x.received.method !== "OPTIONS") return null;
    const { fields } = x.forward;
    const at = fields.findIndex((name, i) => i % 2 === 0 && name.toLowerCase() === "max-forwards");
    const value = at < 0 ? "" : (fields[at + 1] as string);
    // What is no number is not ours to understand.
    if (!/^\d{1,9}$/.test(value)) return null;
    if (Number(value) === 0) return answer(x);
    fields[at + 1] = String(Number(value) - 1);
    return null;
  },
};

/** As the final recipient: there is nothing to tell but that the request came. */
const answer = (x: Exchange): StageResult => ({
  status: 204,
  phrase: "No Content",
  fields: ["X-Sallyport-Decision", `allow; id=${x.id}; max-forwards`, "Cache-Control", "no-store"],
  content: new Uint8Array(0),
});
