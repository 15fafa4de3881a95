import { AutomatonBudget } from './automaton.ts';
import { COMPILER_STEPS_MAX } from './grammar-limits.ts';
import { schemaRefusal } from './schema-refusal.ts';
import { StringAutomata } from './string-automata.ts';

/** The work on one request, however many schemas and strings are in it. */
export class CompilerBudget {
  readonly strings = new StringAutomata(new AutomatonBudget());
  #stepsLeft = COMPILER_STEPS_MAX;

  /** @throws SCHEMA_NOT_SUPPORTED */
  spend(steps: number, path: string): void {
    this.#stepsLeft -= steps;
    if (this.#stepsLeft < 0) throw schemaRefusal(path, 'too complex: it takes too long to work out');
  }
}
