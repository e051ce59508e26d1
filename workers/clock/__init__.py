"""Publishes a job for every row that is due. Several may run: each takes rows that no other one has locked."""
