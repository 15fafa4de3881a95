import { systemRefusal } from '../files/system-refusal.ts';

/**
 * Runs system calls on a file, and says what the system refuses with a code and the path.
 * @throws DISK_FULL, PERMISSION_DENIED, whatever the work throws
 */
export async function onDisk<T>(action: 'read' | 'write', file: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw systemRefusal(error, action, file) ?? error;
  }
}
