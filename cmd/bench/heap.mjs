// Prints the memory of the isolates of a workerd that runs with -inspector PORT, in
// bytes: what V8 has of each, and what of it is used.
//
//   node cmd/bench/heap.mjs PORT
const base = `http://127.0.0.1:${process.argv[2]}`;
for (const { id, title, webSocketDebuggerUrl } of await (await fetch(`${base}/json`)).json()) {
  const socket = new WebSocket(webSocketDebuggerUrl);
  await new Promise((resolve, reject) => Object.assign(socket, { onopen: resolve, onerror: reject }));
  const ask = (number, method) => new Promise((resolve) => {
    socket.addEventListener("message", ({ data }) => {
      const answer = JSON.parse(data);
      if (answer.id === number) resolve(answer.result);
    });
    socket.send(JSON.stringify({ id: number, method }));
  });
  await ask(1, "HeapProfiler.enable");
  await ask(2, "HeapProfiler.collectGarbage");
  console.log(id, title, JSON.stringify(await ask(3, "Runtime.getHeapUsage")));
  socket.close();
}
