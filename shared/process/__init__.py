"""What every process has: its log, its metrics, its health server, its memory, the address of its database."""
