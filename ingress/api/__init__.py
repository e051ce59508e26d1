"""The management API: everything that a tenant or an operator does, from one declaration each."""
