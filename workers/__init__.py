"""The workers: each consumes its queues, or runs a loop.

A worker is a module, or a package once it needs a second file.
"""
