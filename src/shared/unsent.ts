// How much of what was written to a connection is still on its way out: who reads slowly is not silent.

/** What the system has not taken yet; of the piece that it takes at the moment that part too, where the system says how much. */
export function unsentOf(socket: { readonly writableLength: number }): number {
  const handle = (socket as { readonly _handle?: { readonly writeQueueSize?: number } | null })._handle;
  return socket.writableLength + (handle?.writeQueueSize ?? 0);
}
