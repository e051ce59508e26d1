"""The table messages, a module for each part of a message's life."""
