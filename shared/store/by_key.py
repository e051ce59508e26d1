"""Writes conditions on a state so that PostgreSQL looks the row up by its primary key and scans no partial index.

A condition such as `status = 'ready'` implies the predicate of a partial index. While few rows are in that state,
PostgreSQL may take a scan of that whole index for as cheap as a look-up by primary key. A prepared statement keeps the
plan, and reads the whole index for each message once there is a backlog.
"""


def only_if(condition: str) -> str:
    """SQL that is true where `condition` is, and in which the planner finds no reason to take another index."""
    return f"CASE WHEN {condition} THEN true ELSE false END"
