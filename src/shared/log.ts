// The port for operational logging (pino implements it in the edge). Never a secret, a field value or a body.

export interface Log {
  debug(event: object, message: string): void;
  info(event: object, message: string): void;
  warn(event: object, message: string): void;
  error(event: object, message: string): void;
}
