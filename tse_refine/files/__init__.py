"""Files whole or not at all, their digests, and tables: nothing here is about sound."""
