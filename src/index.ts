// The whole of Freehold for programs. `freehold/verify` and `freehold/format` are the parts that touch nothing.
export type { ChatMessage, ModelInfo } from './core/base/engine-port.ts';
export type { ErrorCode } from './core/base/error-table.ts';
export { FreeholdError } from './core/base/errors.ts';
export {
  type ChatOptions,
  type ChatPart,
  type OpenHomeOptions,
  type OwnedHome,
  type OwnedModel,
  openHome,
} from './surface/app/open-home.ts';
export { FREEHOLD_VERSION } from './surface/app/version.ts';
export type { RunningServer } from './surface/server/listen.ts';
export { type ServeOptions, serveHost as startServer } from './surface/server/serve-host.ts';
export { verifyPackage } from './verify.ts';
