"""From recordings on disk to batches of mixtures: corpora, clip bank, queries, recipes, rendering, data module."""
