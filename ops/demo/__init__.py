"""The tenants of a local stack: a channel at each provider the sandbox plays. A module here for each provider."""
