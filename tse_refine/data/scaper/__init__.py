"""Scaper's recipes (JAMS): read and written."""
