import { z } from 'zod';
import { FreeholdError } from '../../core/base/errors.ts';
import { parseTag } from '../../core/base/registry-reference.ts';
import { readPages } from './pages.ts';
import { TAGS_MAX } from './registry-limits.ts';
import type { RepositoryContext } from './repository-context.ts';

/** Asked for at once; registries may give fewer. */
const PAGE_TAGS = 1000;

/** Some registries write null for none. */
const pageSchema = z.object({ tags: z.array(z.string()).nullish() });

/** All tags. OCI distribution 1.1, "Listing Tags". None in a repository that does not exist yet. */
export async function listTags(context: RepositoryContext, signal: AbortSignal): Promise<string[]> {
  const { repository, label } = context;
  const isAbsent = ({ status }: { status: number }) => status === 404;
  const pages = await readPages(context, `/v2/${repository}/tags/list?n=${PAGE_TAGS}`, isAbsent, signal);
  const tags = new Set<string>();
  for (const page of pages ?? []) {
    const { data } = pageSchema.safeParse(page);
    if (data === undefined) throw new FreeholdError('NETWORK', `${label}: the answer is no list of tags`);
    for (const tag of data.tags ?? []) if (isTag(tag)) tags.add(tag);
    if (tags.size > TAGS_MAX) throw new FreeholdError('NETWORK', `${label}: more than ${TAGS_MAX} tags`);
  }
  return [...tags];
}

/** What is none could not be asked for. */
function isTag(text: string): boolean {
  try {
    parseTag(text);
    return true;
  } catch {
    return false;
  }
}
