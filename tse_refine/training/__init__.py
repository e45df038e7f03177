"""Losses, the LightningModule, its logger, and sweeps."""
