"""What `palomar bench` runs: the rows, and the floor programs they are held against.

A floor does only the I/O that can't be avoided, with the same broker, database and libraries. Every figure is a ratio
of two measurements made in turn in one run; an absolute time says more about the machine than about us. Nothing here
is a test: pytest does not look into this folder.
"""
