"""Changes to rows with their event in one transaction, which more than one process makes."""
