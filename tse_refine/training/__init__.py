"""Losses, the LightningModule, its loggers, and sweeps."""
