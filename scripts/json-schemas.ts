import { z } from 'zod';
import { appYamlSchema } from '../src/core/format/app-yaml.ts';
import { modelYamlSchema } from '../src/core/format/model-yaml.ts';

const SCHEMAS: Readonly<Record<string, { readonly title: string; readonly schema: z.ZodType }>> = {
  'freehold.schema.json': {
    title: 'freehold.yaml: the models that an application needs',
    schema: appYamlSchema,
  },
  'model.schema.json': { title: 'model.yaml: how a package is built', schema: modelYamlSchema },
};

/** Text of each file of `spec/` that editors complete people's files by, from the schemas that read those files. */
export function jsonSchemas(): ReadonlyMap<string, string> {
  return new Map(
    Object.entries(SCHEMAS).map(([file, { title, schema }]) => {
      const { $schema, ...rest } = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' });
      return [file, `${JSON.stringify({ $schema, title, ...rest }, null, 2)}\n`];
    }),
  );
}
