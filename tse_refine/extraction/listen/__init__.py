"""A local page to try a checkpoint: hear what a query extracts, with and without refinement."""
