"""The table `events` → the exchange `events`, in commit order without gaps."""
