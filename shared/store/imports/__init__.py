"""SQL that only `palomar import` runs."""
