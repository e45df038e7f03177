"""A checkpoint on one's own recordings."""
