import { realModel } from '../fixtures/real-models.ts';
import { killedTransferSuite } from './killed-transfer-suite.ts';

killedTransferSuite({
  program: 'docker-registry',
  kills: 10,
  megabytes: 1117,
  weights: () => realModel('qwen2.5-coder-1.5b-instruct'),
  isPullOnly: true,
  bytesPerSecond: 100e6,
  seed: 2,
});
