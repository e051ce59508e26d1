"""What every HTTP server of ours does: reads bodies within bounds, and knows the sender behind our own proxies."""
