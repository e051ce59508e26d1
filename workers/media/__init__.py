"""MediaWanted → the provider → our own copy of a customer's file in the blob store."""
