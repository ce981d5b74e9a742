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
//
// A line is printed once it answers, {"url"}: where. It ends when its standard
// input does.
import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { convertV4MiniflareOptions, Miniflare } from "miniflare";
import workerd from "workerd";

const { entry, env, flags, state, log, migrations, inspector, blank } = JSON.parse(process.argv[2]);

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

const runtime = new Miniflare(convertV4MiniflareOptions({
  modulesRoot: dirname(entry),
  modules: blank
    ? [{ type: "ESModule", path: `${dirname(entry)}/blank.mjs`, contents: blankModule }, ...modules(entry).map(({ path }) => ({ type: "Data", path }))]
    : modules(entry),
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
