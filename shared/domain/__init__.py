"""The rules and the words of messaging. No I/O."""
