"""How files are written, held and hashed: whole or not at all, by one process at a time."""
