import { DIFFERENCE_CLASSES, type DifferenceClass } from './difference-classes.ts';

/** Headings of the page → the classes below them. */
const SECTIONS: readonly (readonly [
  marker: string,
  belongs: (found: DifferenceClass) => boolean,
  who: string,
])[] = [
  ['gguf', ({ against }) => against === 'gguf', '`gguf`'],
  [
    'llama.cpp accepts',
    ({ against, kind }) => against === 'llama.cpp' && kind === 'only they accept',
    'llama.cpp',
  ],
  [
    'llama.cpp refuses',
    ({ against, kind }) => against === 'llama.cpp' && kind === 'only we accept',
    'llama.cpp',
  ],
];

/** docs/GGUF-CONFORMANCE.md with its tables written anew; the text around them stays. */
export function conformancePage(page: string): string {
  return page.replace(
    /(<!-- classes: ([^>]+) -->\n)[\s\S]*?(<!-- end -->)/g,
    (_, start: string, marker: string, end: string) => `${start}\n${classTable(marker)}\n\n${end}`,
  );
}

function classTable(marker: string): string {
  const section = SECTIONS.find(([name]) => name === marker);
  if (section === undefined) throw new TypeError(`no classes are called ${marker}`);
  const [, belongs, who] = section;
  const rows = DIFFERENCE_CLASSES.filter(belongs).map(
    ({ name, kind, why }) => `| ${name} | ${kind === 'only we accept' ? 'Freehold' : who} | ${why} |`,
  );
  return ['| class | who accepts | why |', '|---|---|---|', ...rows].join('\n');
}
