// Shares the event loop among the filters of all WebSockets: together they hold it for so long, and then everybody else has a turn.

/** Milliseconds of work in one turn of the event loop, and whatever the last step takes beyond. */
const SLICE = 10;

/** Work in steps of a few milliseconds each. */
export interface Work {
  /** Does the next step. False: there is no more for now. Never throws. */
  step(): boolean;
}

const queue: Work[] = [];
/** Milliseconds that were used in this turn. */
let spent = 0;
let scheduled = false;

/** Does the work at once while this turn has time for it, and the rest of it in later turns, in turn with that of others. */
export function inTurn(work: Work): void {
  if (queue.length > 0 || !advance(work)) queue.push(work);
}

/** True: it is done; false: the time is up. */
function advance(work: Work): boolean {
  if (spent >= SLICE) return false;
  const began = performance.now();
  const before = spent;
  let more = true;
  while (more && spent < SLICE) {
    more = work.step();
    spent = before + performance.now() - began;
  }
  schedule();
  return !more;
}

function schedule(): void {
  if (scheduled) return;
  scheduled = true;
  setImmediate(nextTurn);
}

function nextTurn(): void {
  scheduled = false;
  spent = 0;
  for (let work = queue[0]; work !== undefined && spent < SLICE; work = queue[0]) {
    queue.shift();
    if (!advance(work)) queue.push(work);
  }
  if (queue.length > 0) schedule();
}
