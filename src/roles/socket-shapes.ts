// Keeps making a socket cheap.
//
// node:net copies the options of each socket and adds to the copy. V8 (11) gives such a copy a shape of its own each time, as
// long as it has seen few shapes copied there: then every look at the options misses its cache, some twenty for a socket, and
// the shapes are left to the collector of the old generation. Once V8 has seen many shapes copied there, it copies in the
// general way, and all copies share one shape. So it is shown many, before the first connection comes.
import { Socket } from "node:net";

/** V8 takes the general way from the fifth shape on, and looks only after the first calls. */
const SHAPES = 8;
const ROUNDS = 8;

/** Once for each process that will accept or open many connections; takes milliseconds. */
export function shareSocketShapes(): void {
  for (let i = 0; i < SHAPES * ROUNDS; i++) new Socket({ [`shape${i % SHAPES}`]: true, allowHalfOpen: true }).destroy();
}
