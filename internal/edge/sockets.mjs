// The WebSockets of an object. They are the runtime's (`ctx.acceptWebSocket`): an idle
// object goes out of memory and they stay, with what is attached to them.

// What the runtime answers by itself, without the object.
const PING = new WebSocketRequestResponsePair("ping", "pong");

// How many bytes a message of a client may have. Nothing is done with any.
const MAX_MESSAGE = 1024;

// upgrade returns the response that opens a socket. With a code it is closed at once, and
// otherwise an object has it, by an id, with a note and a first message.
export function upgrade(ctx, headers, { id, note, message, code, reason }) {
  const { 0: client, 1: server } = new WebSocketPair();
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
export const open = (ctx, id) => ctx.getWebSockets(id).filter(({ readyState }) => readyState === WebSocket.OPEN);

// send sends a message, and takes over what the note is from then on.
export function send(ctx, id, note, message) {
  for (const socket of open(ctx, id)) {
    try {
      socket.serializeAttachment({ id, note });
      socket.send(message);
    } catch {} // its client is gone: the runtime tells later
  }
}

// received closes a socket whose client sends too much.
export function received(socket, message) {
  const bytes = typeof message === "string" ? new TextEncoder().encode(message).length : message.byteLength;
  if (bytes > MAX_MESSAGE) close(socket, 1009, "too_large");
}

// close answers a client that closes, too: otherwise it would see 1006. There are codes
// that stand for no code, and may not be sent.
export function close(socket, code, reason) {
  try {
    socket.close([1005, 1006, 1015].includes(code) ? 1000 : code, reason);
  } catch {} // it is closed
}
