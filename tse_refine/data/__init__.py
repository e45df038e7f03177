"""From recordings on disk to batches of mixtures: corpora, clip bank, recipes, rendering, queries, data module."""
