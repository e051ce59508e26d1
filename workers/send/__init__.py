"""SendReady → claim → provider call → result. Palomar never sends a message twice on its own."""
