"""tRPC under /trpc, as its clients of versions 10 and 11 speak it: HTTP, batches, streams, SSE and WebSocket."""
