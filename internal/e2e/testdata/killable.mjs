// The Worker, with paths that bring its Go program to an end as a mistake or a
// lack of memory would.
const instances = [];
WebAssembly.Instance = new Proxy(WebAssembly.Instance, {
  construct(target, args) {
    const instance = Reflect.construct(target, args);
    instances.push(instance);
    return instance;
  },
});

const { default: worker, UserObject } = await import("../../../worker/worker.mjs");
const { program } = await import("../../edge/edge.mjs");
export { UserObject };

const ways = {
  // Nothing recovers from a panic here: there is no such length.
  "/kill/panic": () => {
    program();
    instances.at(-1).exports.reserve(-1);
    program().route("GET", "http://killable/healthz", "", "", "");
  },
  // All memory is taken, and Go then asks for more.
  "/kill/memory": () => {
    const { mem } = instances.at(-1).exports;
    try {
      for (;;) mem.grow(1024);
    } catch {
      // no more to be had
    }
    program().route("GET", "/".repeat(64 << 20), "", "", "");
  },
};

export default {
  fetch(request) {
    const kill = ways[new URL(request.url).pathname];
    if (!kill) return worker.fetch(request);
    try {
      kill();
      return new Response("it lives");
    } catch (error) {
      return new Response(`killed: ${error.message}`);
    }
  },
};
