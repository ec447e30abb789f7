// How many connections each source address has on a port: TCP connections from their first moment on, and each CONNECT on a
// stream of HTTP/2, which is a connection of its own in HTTP/1.1.

export class ClientCount {
  private readonly perAddress = new Map<string, number>();

  /** One more of this address; how many it has now. */
  enter(address: string): number {
    const count = this.of(address) + 1;
    this.perAddress.set(address, count);
    return count;
  }

  leave(address: string): void {
    const left = this.of(address) - 1;
    if (left > 0) this.perAddress.set(address, left);
    else this.perAddress.delete(address);
  }

  of(address: string): number {
    return this.perAddress.get(address) ?? 0;
  }
}
