"""Whatever is due → the queue where it goes on. Several may run: each takes rows that nobody else holds."""
