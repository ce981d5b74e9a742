// The WebSockets of an object. They are the runtime's (`ctx.acceptWebSocket`): an idle
// object goes out of memory and they stay, with what is attached to them.

// What the runtime answers by itself, without the object.
const PING = new WebSocketRequestResponsePair("ping", "pong");

// How many bytes a message of a client may have. Nothing is done with any.
const MAX_MESSAGE = 1024;

// How many sockets the runtime may list for an object, with those that were closed and
// whose client never says so.
const MAX_LISTED = 200;

// upgrade returns the response that opens a socket. With a code it is closed at once, and
// otherwise an object has it, by an id, with a note and a first message.
export function upgrade(ctx, headers, { id, note, message, code, reason }) {
  const { 0: client, 1: server } = new WebSocketPair();
  if (!code && ctx.getWebSockets().length >= MAX_LISTED) [code, reason] = [4429, "too_many_sockets"];
  if (code) {
    server.accept();
    server.close(code, reason);
  } else {
    ctx.setWebSocketAutoResponse(PING);
    ctx.acceptWebSocket(server, [id]);
    server.serializeAttachment({ id, note });
    server.send(message);
  }
  return new Response(null, { status: 101, webSocket: client, headers });
}

// open returns the open sockets, or the one of an id. The runtime lists those too that
// were closed and whose client has not answered.
const open = (ctx, id) => ctx.getWebSockets(id).filter(({ readyState }) => readyState === WebSocket.OPEN);

// notes returns the id and the note of each open socket.
export const notes = (ctx) => open(ctx).map((socket) => socket.deserializeAttachment());

// send sends a message, and takes over what the note is from then on. Where its client is
// gone nothing happens: the runtime tells later.
export function send(ctx, id, note, message) {
  try {
    for (const socket of open(ctx, id)) {
      socket.serializeAttachment({ id, note });
      socket.send(message);
    }
  } catch {}
}

// close closes the socket of an id.
export function close(ctx, id, code, reason) {
  try {
    for (const socket of open(ctx, id)) closeSocket(socket, code, reason);
  } catch {}
}

// received closes a socket whose client sends too much.
export function received(socket, message) {
  const bytes = typeof message === "string" ? new TextEncoder().encode(message).length : message.byteLength;
  if (bytes > MAX_MESSAGE) closeSocket(socket, 1009, "too_large");
}

// closeSocket answers a client that closes, too: otherwise it would see 1006. There are
// codes that stand for no code, and may not be sent.
export function closeSocket(socket, code, reason) {
  try {
    socket.close([1005, 1006, 1015].includes(code) ? 1000 : code, reason);
  } catch {} // it is closed
}
