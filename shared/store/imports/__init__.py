"""SQL of palomar import alone."""
