// The body step of the content stage where only trailers are looked at: the content itself passes as it comes.
import type { BodyNext, BodyStep } from "../exchange/stage.ts";
import type { Fields } from "../http/fields.ts";
import { asProxyError } from "../shared/errors.ts";

export class TrailersStep implements BodyStep {
  readonly holdsHead = false;
  readonly #next: BodyNext;
  readonly #look: (trailers: Fields) => Fields;

  /** `look` returns the trailers that go on, and throws a ProxyError when they are blocked. */
  constructor(next: BodyNext, look: (trailers: Fields) => Fields) {
    this.#next = next;
    this.#look = look;
  }

  write(chunk: Uint8Array): boolean {
    return this.#next.write(chunk);
  }

  end(trailers: Fields | null): void {
    let last = trailers;
    try {
      if (trailers !== null) last = this.#look(trailers);
    } catch (error) {
      this.#next.fail(asProxyError(error));
      return;
    }
    this.#next.end(last);
  }

  resume(): void {
    this.#next.drained();
  }

  abort(): void {}
}
