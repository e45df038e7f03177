"""Sound files: found in folders, and read whole or rejected."""
