import { killedTransferSuite } from './killed-transfer-suite.ts';

killedTransferSuite({ program: 'registry', kills: 10, megabytes: 30, bytesPerSecond: 6e6, seed: 1 });
