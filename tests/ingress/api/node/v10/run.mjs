import {
  createTRPCProxyClient,
  createTRPCUntypedClient,
  createWSClient,
  httpBatchLink,
  httpLink,
  unstable_httpBatchStreamLink,
  wsLink,
} from "@trpc/client";
import WebSocket from "ws";

import { main } from "../common.mjs";

let socket;
const links = ({ link }) =>
  ({
    httpLink,
    httpBatchLink,
    httpBatchStreamLink: unstable_httpBatchStreamLink,
    wsLink: (options) => wsLink({ client: (socket = createWSClient({ WebSocket, ...options })) }),
  })[link];

await main({
  createClient: createTRPCProxyClient,
  createUntyped: createTRPCUntypedClient,
  links,
  closing: async () => {
    socket?.close();
    socket = undefined;
  },
});
