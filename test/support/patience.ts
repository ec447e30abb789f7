// How long a test waits for what must come.

/** Milliseconds. Only a failure lasts so long: a machine with other work may take many times what a quiet one does. */
export const PATIENCE = 20_000;
