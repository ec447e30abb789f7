// How much of what was written to a connection is still on its way out: who reads slowly is not silent.

interface Handle {
  readonly writeQueueSize?: number;
  /** Of TLS: the connection under it. */
  readonly _parent?: Handle;
}

/**
 * What the system has not taken yet, as a number that changes while bytes leave, and is 0 when all have. Of the piece that it takes at
 * the moment too, where the system says how much: TLS says so only of the connection under it, so its bytes may count twice.
 */
export function unsentOf(socket: { readonly writableLength: number }): number {
  const handle = (socket as { readonly _handle?: Handle | null })._handle;
  return socket.writableLength + (handle?.writeQueueSize ?? 0) + (handle?._parent?.writeQueueSize ?? 0);
}
