import type { VersionNotices } from '../../core/format/channel-documents.ts';
import { harmless, type Terminal } from './terminal.ts';

/** What a publisher says of a version, as `list` and `update check` show it. */
export function noticeLines(
  terminal: Terminal,
  version: string,
  { advisories, yankedBecause }: VersionNotices,
): string[] {
  return [
    ...(yankedBecause === undefined
      ? []
      : [`${terminal.paint('bad', 'withdrawn')} ${version}: ${harmless(yankedBecause)}`]),
    ...advisories.map(
      ({ id, severity, title, action, fixedIn }) =>
        `${terminal.paint('bad', severity)} ${id} ${version}: ${harmless(title)}. ${harmless(action)}${fixedIn === undefined ? '' : ` (fixed in ${fixedIn})`}`,
    ),
  ];
}
