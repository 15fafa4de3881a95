import type { GgufDescription } from '../../core/format/gguf/gguf-description.ts';
import { encodeShardName } from '../../core/format/gguf/gguf-shards.ts';
import {
  inPathOrder,
  type PackageDescriptor,
  type PackageFile,
} from '../../core/format/package-descriptor.ts';

/** Context, compute buffers and the process itself, beside the weights: the starter peaks 306 MiB above its weights. */
const WORKING_MEMORY_BYTES = 384 * 2 ** 20;

export interface PackageFacts
  extends Pick<
    PackageDescriptor,
    'name' | 'version' | 'variant' | 'license' | 'description' | 'parameters' | 'lineage'
  > {
  readonly model: GgufDescription;
  readonly files: readonly PackageFile[];
}

/** The descriptor of a package whose weights were read. */
export function describePackage({ model, files, ...facts }: PackageFacts): PackageDescriptor {
  const weightsBytes = files
    .filter((file) => file.role === 'weights')
    .reduce((sum, file) => sum + file.size, 0);
  return {
    ...facts,
    schemaVersion: 1,
    kind: 'model',
    model: {
      format: 'gguf',
      architecture: model.architecture,
      purpose: model.purpose,
      parameterCount: model.parameterCount,
      contextTokens: model.contextTokens ?? 0,
      quantization: model.quantization,
    },
    engine: { name: 'llama.cpp' },
    memoryBytes: weightsBytes + WORKING_MEMORY_BYTES,
    protection: { sealed: false },
    files: inPathOrder(files),
  };
}

/** Named by us, so that the same weights give the same package whatever the publisher's file was called. */
export function weightsFileName(
  packageShortName: string,
  quantization: string,
  number: number,
  count: number,
): string {
  const prefix = `${packageShortName}-${quantization.toLowerCase()}`;
  return count === 1 ? `${prefix}.gguf` : encodeShardName({ prefix, number, count });
}
