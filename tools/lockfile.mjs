// Checks each package-lock.json: every package stands there with the hash of its
// content and comes from the registry. Install scripts may fetch what the lock
// does not name, so .npmrc has to keep npm from running any.
import { readFileSync } from "node:fs";

const faults = [];
for (const folder of [".", "clients/js"]) {
  const { packages } = JSON.parse(readFileSync(`${folder}/package-lock.json`, "utf8"));
  for (const [path, { link, integrity, resolved = "" }] of Object.entries(packages)) {
    if (path === "") continue; // this project
    if (link || !integrity?.startsWith("sha512-")) faults.push(`${folder}: ${path} has no sha512 hash`);
    if (resolved && !resolved.startsWith("https://registry.npmjs.org/")) faults.push(`${folder}: ${path} comes from ${resolved}`);
  }
}
if (!/^ignore-scripts=true$/m.test(readFileSync(".npmrc", "utf8"))) faults.push(".npmrc lets install scripts run");
for (const fault of faults) console.error(fault);
process.exit(faults.length ? 1 : 0);
