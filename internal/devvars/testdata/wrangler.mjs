// What the wrangler that is installed reads from each of the texts on the standard
// input, a JSON array, as .dev.vars: an array of what each sets.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const require = createRequire(join(process.argv[2], 'node_modules', 'wrangler', 'package.json'));
const { unstable_getVarsForDev: varsForDev } = require('wrangler');

const dir = mkdtempSync(join(tmpdir(), 'dev-vars-'));
const texts = JSON.parse(readFileSync(0, 'utf8'));
const sets = texts.map((text) => {
  writeFileSync(join(dir, '.dev.vars'), text);
  const vars = varsForDev(join(dir, 'wrangler.toml'), undefined, {}, '', true);
  return Object.fromEntries(Object.entries(vars).map(([name, { value }]) => [name, value]));
});
rmSync(dir, { recursive: true });
process.stdout.write(JSON.stringify(sets));
