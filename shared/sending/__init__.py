"""A provider's client for each channel, its rate, and the files that a message carries."""
