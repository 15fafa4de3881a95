import type { RegistryConnection } from './registry-connection.ts';

/** One repository, as its parts need it. */
export interface RepositoryContext {
  readonly connection: RegistryConnection;
  /** `acme/triage`. */
  readonly repository: string;
  /** `registry.acme.example/acme/triage`, for messages. */
  readonly label: string;
}

/** What a token must allow to read. */
export const readScopes = (repository: string): string[] => [`repository:${repository}:pull`];
/** To write, one must see what is there. */
export const writeScopes = (repository: string): string[] => [`repository:${repository}:pull,push`];
