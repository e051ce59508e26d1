"""The rules and the vocabulary of messaging. No I/O."""
