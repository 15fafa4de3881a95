/** How many threads one model works best with on this machine, as measured. */
export interface ThreadChoice {
  /** While answers are written: one token for each running request at a time. */
  readonly decode: number;
  /** While prompts are read. */
  readonly batch: number;
  /** One answer alone, with `decode` threads, when it was measured: far fewer later on mean that cores are taken. */
  readonly tokensPerCpuSecond: number;
}

/** Remembers measurements on one machine. Losing one costs a second at the next load, nothing else. */
export interface ThreadChoices {
  /** @param key stands for weights and engine version. Never throws: what cannot be read is measured again */
  read(key: string): Promise<ThreadChoice | undefined>;
  /** Never throws: the model works without. */
  write(key: string, choice: ThreadChoice): Promise<void>;
}
