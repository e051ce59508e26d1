"""Changes to rows together with their event, in one transaction; used by more than one process."""
