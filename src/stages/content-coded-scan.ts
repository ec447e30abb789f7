// Secrets in coded content beside what is coded: names and comments of gzip (RFC 1952 section 2.3), metadata of brotli (RFC 7932
// section 9.2). A decoder passes them over, but they leave with the content.
import { ByteWindow } from "../filters/byte-window.ts";
import { EscapedMatcher } from "../filters/escaped-matcher.ts";
import { TextScan } from "../filters/text-scan.ts";
import type { ContentSide } from "./content-side.ts";

export class CodedScan {
  readonly #side: ContentSide;
  readonly #window = new ByteWindow();
  readonly #scan: TextScan;

  constructor(side: ContentSide) {
    this.#side = side;
    // No escapes: nobody undoes them there.
    const rules = side.rules.body.filter((rule) => rule.secret && !(rule.matcher instanceof EscapedMatcher));
    this.#scan = new TextScan(rules, this.#window);
  }

  /** Takes coded bytes. Throws a ProxyError where they are blocked; a match across two pieces is found with the second. */
  push(coded: Uint8Array): void {
    this.#window.append(coded);
    this.#scan.search(this.#window.end, "pause", (rule) => {
      this.#side.matched(rule, "coded body");
      return true;
    });
    this.#window.dropTo(this.#scan.needed);
  }
}
