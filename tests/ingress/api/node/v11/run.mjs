import {
  createTRPCClient,
  createTRPCUntypedClient,
  createWSClient,
  httpBatchLink,
  httpBatchStreamLink,
  httpLink,
  httpSubscriptionLink,
  wsLink,
} from "@trpc/client";
import { EventSource } from "eventsource";
import WebSocket from "ws";

import { main } from "../common.mjs";

let socket;
const links = ({ link }) =>
  ({
    httpLink,
    httpBatchLink,
    httpBatchStreamLink,
    httpSubscriptionLink: (options) => httpSubscriptionLink({ EventSource, ...options }),
    wsLink: (options) => wsLink({ client: (socket = createWSClient({ WebSocket, ...options })) }),
  })[link];

await main({
  createClient: createTRPCClient,
  createUntyped: createTRPCUntypedClient,
  links,
  closing: async () => {
    socket?.close();
    socket = undefined;
  },
});
