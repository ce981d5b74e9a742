// Walks a key through its life with OpenRouter's own SDK and prints what the SDK
// made of the answers, as JSON.
//
// Usage: node sdk.mjs <base URL> <provisioning key>
import { OpenRouter } from "@openrouter/sdk";

const [serverURL, apiKey] = process.argv.slice(2);
const retryConfig = { strategy: "none" };
const client = new OpenRouter({ serverURL, apiKey, retryConfig });

// failure resolves to the name and status of the error with which a call fails.
const failure = (call) =>
  call.then(
    () => ({ name: "none" }),
    (error) => ({ name: error.name, status: error.statusCode ?? null }),
  );

const result = {};

result.created = await client.apiKeys.create({
  requestBody: {
    name: "ada",
    limit: 1,
    limitReset: "monthly",
    expiresAt: new Date("2026-09-01T00:00:00Z"),
    external: { user: "u_1" },
  },
});
const { hash } = result.created.data;
await client.apiKeys.create({ requestBody: { name: "grace" } });

const own = new OpenRouter({ serverURL, apiKey: result.created.key, retryConfig });
result.chat = await own.chat.send({
  chatRequest: { model: "m", messages: [{ role: "user", content: "hello" }] },
});
result.streamed = [];
const stream = await own.chat.send({
  chatRequest: { model: "m", stream: true, messages: [{ role: "user", content: "hello" }] },
});
for await (const chunk of stream) result.streamed.push(chunk);
result.current = await own.apiKeys.getCurrentKeyMetadata();

result.got = await client.apiKeys.get({ hash });
result.updated = await client.apiKeys.update({
  hash,
  requestBody: { name: "ada lovelace", limit: null, disabled: true },
});
result.listed = (await client.apiKeys.list()).data.map((key) => key.name);
result.listedAll = (await client.apiKeys.list({ includeDisabled: true, offset: 0 })).data.map((key) => key.name);
result.credits = await client.credits.getCredits();
result.activity = await client.analytics.getUserActivity();

const guardrail = await client.guardrails.create({
  createGuardrailRequest: { name: "small models", limitUsd: 2.5, resetInterval: "monthly", allowedModels: ["m"] },
});
const { id } = guardrail.data;
result.guardrail = (await client.guardrails.get({ id })).data;
result.assigned = await client.guardrails.bulkAssignKeys({ id, bulkAssignKeysRequest: { keyHashes: [hash] } });
result.assignments = (await client.guardrails.listGuardrailKeyAssignments({ id })).result;
result.guardrails = (await client.guardrails.list()).result.totalCount;
result.changed = (await client.guardrails.update({ id, updateGuardrailRequest: { allowedModels: null } })).data;
result.unassignable = await failure(
  client.guardrails.bulkAssignKeys({ id, bulkAssignKeysRequest: { keyHashes: ["none"] } }),
);
result.guardrailDeleted = await client.guardrails.delete({ id });

result.deleted = await client.apiKeys.delete({ hash });
result.deletedTwice = await failure(client.apiKeys.delete({ hash }));
result.gotDeleted = await failure(client.apiKeys.get({ hash }));
result.invalid = await failure(client.apiKeys.create({ requestBody: { name: "" } }));
result.unauthorized = await failure(new OpenRouter({ serverURL, apiKey: "other", retryConfig }).apiKeys.list());

// By default the SDK repeats a create whose answer was lost.
await fetch(new URL("/_control/faults", serverURL), {
  method: "POST",
  body: JSON.stringify({ op: "create", kind: "drop", applied: true, times: 1 }),
});
result.repeated = await new OpenRouter({ serverURL, apiKey }).apiKeys.create({ requestBody: { name: "lost" } });

console.log(JSON.stringify(result));
