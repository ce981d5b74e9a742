// TanStack Query: the user's quota, read on the server, shown in the page, kept up to
// date there, and gone with the user. This program plays the server and the page.
//
//   LATCHKEY_URL=https://latchkey.example.org LATCHKEY_TOKEN=... USER_ID=u_42 node build/examples/react-query.js

import { dehydrate, HydrationBoundary, QueryClient, QueryClientProvider, queryOptions, useQuery, type DehydratedState } from "@tanstack/react-query";
import { renderToString } from "react-dom/server";
import { latchkey, type Latchkey } from "latchkey";

const { LATCHKEY_URL = "", LATCHKEY_TOKEN = "", USER_ID = "" } = process.env;

// The user's id is in the key, so that no user sees what another left in the cache. What is
// cached is the account without the key: a page or a persisted cache never holds one.
const accountQuery = (lk: Latchkey, userId: string) =>
  queryOptions({ queryKey: ["latchkey", userId, "account"], queryFn: () => lk.account(), staleTime: 60_000 });

function Quota({ lk, userId }: { lk: Latchkey; userId: string }) {
  const { data } = useQuery(accountQuery(lk, userId));
  return <p>{data ? `${data.remaining_limit} of ${data.total_limit} credits are left` : "Loading"}</p>;
}

function App(props: { lk: Latchkey; userId: string; queryClient: QueryClient; state: DehydratedState }) {
  return (
    <QueryClientProvider client={props.queryClient}>
      <HydrationBoundary state={props.state}>
        <Quota lk={props.lk} userId={props.userId} />
      </HydrationBoundary>
    </QueryClientProvider>
  );
}

/** On the server, for one request: a client of its own, and no socket. */
async function renderPage(userId: string, token: string) {
  const lk = latchkey({ url: LATCHKEY_URL, token: () => token, WebSocket: null });
  const queryClient = new QueryClient();
  await queryClient.query(accountQuery(lk, userId));
  const state = dehydrate(queryClient);
  const html = renderToString(<App lk={lk} userId={userId} queryClient={queryClient} state={state} />);
  lk.close();
  return { html, state: JSON.stringify(state) };
}

/** In the page, from sign-in to sign-out. */
function session(userId: string, token: () => string, state: DehydratedState) {
  const lk = latchkey({ url: LATCHKEY_URL, token });
  const queryClient = new QueryClient();
  const leave = lk.onChange((account) => queryClient.setQueryData(accountQuery(lk, userId).queryKey, account));
  return {
    lk,
    queryClient,
    html: () => renderToString(<App lk={lk} userId={userId} queryClient={queryClient} state={state} />), // hydrateRoot in a page
    signOut() {
      leave();
      lk.close();
      queryClient.clear();
    },
  };
}

const page = await renderPage(USER_ID, LATCHKEY_TOKEN);
console.log("server:", page.html);

const { lk, queryClient, html, signOut } = session(USER_ID, () => LATCHKEY_TOKEN, JSON.parse(page.state));
console.log("page:", html());
const { version } = await lk.account();
await new Promise<void>((done) => lk.onChange((account) => account.version > version && done()));
console.log("page, after a change:", html());
signOut();
console.log("queries after sign-out:", queryClient.getQueryCache().getAll().length);
