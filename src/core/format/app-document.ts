import { type Document, isMap, isScalar, parseDocument, type YAMLMap } from 'yaml';
import { FreeholdError } from '../base/errors.ts';
import { APP_FILE_NAME, type AppPlan, parseAppYaml, parseModelSource } from './app-yaml.ts';

const FILE_COMMENT = ` The models that this application needs, by the names that it calls them.
 freehold install brings exactly what freehold.lock has; check both files in.`;

/**
 * Adds a model to the text of a `freehold.yaml`; comments, order and spelling of the rest stay.
 * @param text empty for a new file
 * @param source a reference that `parseModelSource` reads
 * @returns the text as it was when it says so already
 * @throws ALREADY_EXISTS when the key has another source; CONFIG_INVALID when the text cannot be read, or uses aliases
 *   that would make it say something else
 */
export function addModelText(text: string, key: string, source: string, label = APP_FILE_NAME): string {
  const before = parseAppYaml(text, label);
  const existing = before.models.find((model) => model.key === key);
  if (existing?.text === source) return text;
  if (existing !== undefined) {
    throw new FreeholdError('ALREADY_EXISTS', `${label} has ${key} from ${existing.text} already`, {
      hint: `edit ${label}, or add it under another name: freehold add NAME=${source}`,
    });
  }
  const document = openDocument(text);
  modelsOf(document).set(document.createNode(key), document.createNode(source));
  const edited = document.toString({ lineWidth: 0 });
  const after = parseAppYaml(edited, label);
  const wanted = { ...before, models: [...before.models, { key, ...parseModelSource(source) }] };
  if (summary(after) !== summary(wanted)) {
    throw new FreeholdError(
      'CONFIG_INVALID',
      `${label} cannot be changed by a program: it uses YAML aliases`,
      {
        hint: `add it by hand, under models: ${key}: ${source}`,
      },
    );
  }
  return edited;
}

const summary = ({ models, listen }: AppPlan) =>
  JSON.stringify([listen, models.map(({ reference: _, ...model }) => model)]);

function openDocument(text: string): Document {
  const document: Document = parseDocument(text);
  if (!isMap(document.contents)) {
    // A comment alone stands at the document, and would stay there.
    document.contents = document.createNode({});
    document.contents.flow = false;
  }
  if (text.trim() === '') document.commentBefore = FILE_COMMENT;
  return document;
}

function modelsOf(document: Document): YAMLMap {
  const models = document.get('models', true);
  if (isMap(models)) {
    if (models.items.length === 0) models.flow = false;
    return models;
  }
  const created = document.createNode({}) as YAMLMap;
  created.flow = false;
  // `models:` without anything is a scalar, null, with perhaps a comment behind it.
  if (isScalar(models) && models.comment) created.commentBefore = models.comment;
  document.set('models', created);
  return created;
}
