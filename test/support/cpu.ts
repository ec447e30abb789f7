// What a piece of work costs, whatever else the machine does meanwhile.

/** Milliseconds of CPU time that this process spends while `work` runs. */
export function cpuTime(work: () => unknown): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1_000;
}
