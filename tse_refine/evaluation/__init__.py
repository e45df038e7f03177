"""A network under every condition and refinement: metrics, the grid, result files."""
