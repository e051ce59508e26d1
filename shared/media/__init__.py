"""Downloads the files that customers send, and stores our copies of them."""
