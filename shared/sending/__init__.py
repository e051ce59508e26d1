"""Sends messages: a provider's client for each channel, the channel's rate, and the files that a message carries."""
