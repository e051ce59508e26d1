"""What the tests stand on, and play with."""
