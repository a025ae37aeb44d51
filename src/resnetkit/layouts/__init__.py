"""Layouts of checkpoints: reading other libraries' and writing them."""
