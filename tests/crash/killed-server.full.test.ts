import { killedServerSuite } from './killed-server-suite.ts';

// Twenty kills of engines; loads are cut off from the launcher's start to the first answer.
killedServerSuite({ models: 10, delaysMs: Array.from({ length: 20 }, (_, index) => index * 25) });
