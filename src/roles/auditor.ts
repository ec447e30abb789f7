// The worker thread of the audit log: the only writer of its database.
import { type MessagePort, parentPort, workerData } from "node:worker_threads";
import { Intake } from "../edge/audit/intake.ts";
import type { AuditorData, ToAuditor } from "../edge/audit/messages.ts";

const port = parentPort as MessagePort;
const intake = new Intake(
  workerData as AuditorData,
  (message) => port.postMessage(message),
  () => port.close(),
);
port.on("message", (message: ToAuditor) => intake.receive(message));
