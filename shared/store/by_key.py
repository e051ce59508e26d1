"""Statements that name a row by its primary key and touch it only in a certain state.

A condition such as `status = 'ready'` implies the predicate of a partial index. While few rows are in that state,
PostgreSQL takes a walk through that whole index for as cheap as a look into the primary key. A prepared statement keeps
the plan, and when a backlog has come it reads all of it for each message.
"""


def only_if(condition: str) -> str:
    """SQL that is true where `condition` is, and in which the planner finds no reason to take another index."""
    return f"CASE WHEN {condition} THEN true ELSE false END"
