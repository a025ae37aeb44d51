"""Data sets: where they come from, how images are read, changed and put into batches."""
