"""Moving in: what `palomar import` copies out of the systems that Palomar replaces. One module a system."""
