import { killedServerSuite } from './killed-server-suite.ts';

// Before the launcher has bound itself, and when the engine is about to load.
killedServerSuite({ models: 3, delaysMs: [0, 150] });
