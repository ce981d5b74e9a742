// Runs one subject on workerd, without wrangler: its requests come in by a
// socket of workerd's own. The argument is a JSON object:
//
//   entry      file of the entry module; what it imports is found from there
//   env        variables and secrets
//   flags      compatibility flags
//   state      folder for what objects and D1 keep
//   log        file that workerd's log is added to
//   migrations SQL statements to run on D1 first
//   inspector  port of the inspector; absent: none
//   blank      load nothing of the subject, but carry its files along as data
//   d1Away     milliseconds by which each call of D1 is answered later
//   d1Busy     milliseconds for which each call of D1 keeps it from the next one
//   metered    log what Cloudflare bills: see meter.mjs
//
// A line is printed once it answers, {"url"}: where. It ends when its standard
// input does.
import { readFileSync } from "node:fs";
import { basename, dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { convertV4MiniflareOptions, D1_PLUGIN, Miniflare } from "miniflare";
import workerd from "workerd";
import { busyD1, distantD1, meteredSubject } from "./meter.mjs";

const { entry, env, flags, state, log, migrations, inspector, blank, d1Away, d1Busy, metered } = JSON.parse(process.argv[2]);

// Miniflare would read the log line by line, on the processors that are measured.
Object.assign(process.env, { WORKERD: workerd.default, WORKERD_LOG: log, MINIFLARE_WORKERD_PATH: fileURLToPath(new URL("workerd.sh", import.meta.url)) });

// modules returns a module and those that it imports. A folder may hold others,
// such as earlier builds.
function modules(path) {
  if (path.endsWith(".wasm")) return [{ type: "CompiledWasm", path }];
  const imports = readFileSync(path, "utf8").matchAll(/^\s*import\s[^;]*?"(\.\/[^"]+)"/gm);
  return [{ type: "ESModule", path }, ...Array.from(imports).flatMap(([, name]) => modules(resolve(dirname(path), name)))];
}

const blankModule = `
  import { DurableObject } from "cloudflare:workers";
  export class UserObject extends DurableObject {}
  export default {};
`;

// around has a module stand around one of the Workers that Miniflare makes of D1.
function around(name, contents) {
  const { getServices } = D1_PLUGIN;
  D1_PLUGIN.getServices = async (options) => {
    const services = await getServices.call(D1_PLUGIN, options);
    const { worker } = services.find(({ worker }) => worker?.modules?.[0].name === name);
    worker.modules.unshift({ name: `around.${name}`, esModule: contents });
    return services;
  };
}
if (d1Away || metered) around("entry.worker.js", distantD1(d1Away, metered));
if (d1Busy) around("database.worker.js", busyD1(d1Busy));

const beside = (name, contents) => ({ type: "ESModule", path: `${dirname(entry)}/${name}`, contents });

function loaded() {
  if (blank) return [beside("blank.mjs", blankModule), ...modules(entry).map(({ path }) => ({ type: "Data", path }))];
  return metered ? [beside("metered.mjs", meteredSubject(basename(entry))), ...modules(entry)] : modules(entry);
}

const runtime = new Miniflare(convertV4MiniflareOptions({
  modulesRoot: dirname(entry),
  modules: loaded(),
  compatibilityDate: "2026-11-01", // as in wrangler.toml
  compatibilityFlags: flags,
  bindings: env,
  d1Databases: { DB: "bench" },
  durableObjects: { USERS: { className: "UserObject", useSQLite: true } },
  resourcePersistencePath: state,
  stripCfConnectingIp: false,
  unsafeDirectSockets: [{ host: "127.0.0.1", port: 0 }],
  inspectorPort: inspector,
}));

process.stdin.resume().on("end", async () => {
  await runtime.dispose();
  process.exit();
});

const url = await runtime.unsafeGetDirectURL();
if (migrations.length > 0) {
  const db = await runtime.getD1Database("DB");
  for (const statement of migrations) await db.prepare(statement).run();
}
console.log(JSON.stringify({ url: url.origin }));
