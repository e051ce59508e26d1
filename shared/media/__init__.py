"""Download and storage of the files that customers send."""
