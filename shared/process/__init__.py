"""Parts that every process has: log, metrics, health server, memory tuning, the database URL."""
