import { type Automaton, AutomatonBudget, withLength } from './automaton.ts';
import { searchAutomaton } from './pattern-automaton.ts';
import { parsePattern } from './regular-expression.ts';

const YEAR = '\\d{4}';
const MONTH_AND_DAY =
  '(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)|02-(?:0[1-9]|1\\d|2[0-8]))';
/** Divisible by 4 and not by 100, or by 400. */
const LEAP_YEAR = '(?:\\d\\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)';
const DATE = `(?:${YEAR}-${MONTH_AND_DAY}|${LEAP_YEAR}-02-29)`;
const HOUR_AND_MINUTE = '(?:[01]\\d|2[0-3]):[0-5]\\d';
const TIME = `${HOUR_AND_MINUTE}:[0-5]\\d(?:\\.\\d{1,9})?(?:Z|[+-]${HOUR_AND_MINUTE})`;
const OCTET = '(?:\\d|[1-9]\\d|1\\d\\d|2[0-4]\\d|25[0-5])';
const IPV4 = `${OCTET}(?:\\.${OCTET}){3}`;
const GROUP = '[0-9a-fA-F]{1,4}';
const LABEL = '[A-Za-z0-9]+(?:-+[A-Za-z0-9]+)*';
const COUNT = '\\d{1,9}';
const DURATION_TIME = `T(?:${COUNT}H(?:${COUNT}M(?:${COUNT}S)?)?|${COUNT}M(?:${COUNT}S)?|${COUNT}S)`;
const DURATION_DATE = `(?:${COUNT}Y(?:${COUNT}M(?:${COUNT}D)?)?|${COUNT}M(?:${COUNT}D)?|${COUNT}D)`;
const URI_CHARACTER = "(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})";

interface Format {
  readonly pattern: string;
  /** Keeps every length limit inside of the text as well. */
  readonly max?: number;
}

/**
 * What `format` enforces. Some take less than their standard allows, never more: times have no leap seconds, email
 * addresses no quoted names, host names one label's length (RFC 1035 §2.3.4), URIs no user name, no address in brackets
 * and no empty parts.
 */
const FORMATS: Readonly<Record<string, Format>> = {
  date: { pattern: DATE },
  time: { pattern: TIME },
  'date-time': { pattern: `${DATE}T${TIME}` },
  duration: { pattern: `P(?:${COUNT}W|${DURATION_DATE}(?:${DURATION_TIME})?|${DURATION_TIME})` },
  uuid: { pattern: '[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}' },
  email: { pattern: `[A-Za-z0-9_+-]+(?:\\.[A-Za-z0-9_+-]+)*@(?:${LABEL}\\.)+[A-Za-z]{2,}`, max: 63 },
  hostname: { pattern: `${LABEL}(?:\\.${LABEL})*`, max: 63 },
  ipv4: { pattern: IPV4 },
  ipv6: { pattern: ipv6() },
  uri: {
    pattern: `[A-Za-z][A-Za-z0-9+.-]*:(?://${LABEL}(?:\\.${LABEL})*(?::\\d{1,4})?(?:/${URI_CHARACTER}*)?|[A-Za-z0-9]${URI_CHARACTER}*)(?:\\?${URI_CHARACTER}+)?(?:#${URI_CHARACTER}+)?`,
  },
};

/** The formats that are enforced; every other one says something to readers only, as JSON Schema 2020-12 allows. */
export const ENFORCED_FORMATS: readonly string[] = Object.keys(FORMATS);

const automata = new Map<string, Automaton>();

/** Texts that have an enforced format. */
export function formatAutomaton(name: string): Automaton {
  const known = automata.get(name);
  if (known !== undefined) return known;
  const { pattern = '', max } = FORMATS[name] ?? {};
  const budget = new AutomatonBudget();
  const automaton = searchAutomaton(parsePattern(`^(?:${pattern})$`), budget);
  const bounded = max === undefined ? automaton : withLength(automaton, 0, max, budget);
  automata.set(name, bounded);
  return bounded;
}

/** RFC 4291 §2.2: eight groups, or fewer around one "::"; an IPv4 address may stand for the last two. */
function ipv6(): string {
  const options: string[] = [`(?:${GROUP}:){7}${GROUP}`, `(?:${GROUP}:){6}${IPV4}`];
  for (let before = 0; before <= 7; before++) {
    const head = before === 0 ? '' : `${GROUP}(?::${GROUP}){${before - 1}}`;
    const after = 7 - before;
    options.push(`${head}::${after === 0 ? '' : `(?:${GROUP}(?::${GROUP}){0,${after - 1}})?`}`);
    if (after >= 2) options.push(`${head}::(?:${GROUP}:){0,${after - 2}}${IPV4}`);
  }
  return options.join('|');
}
