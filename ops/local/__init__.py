"""The local stack: the broker, the database, and Palomar's processes on one machine."""
