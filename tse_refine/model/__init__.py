"""The network: plain ``torch.nn`` modules without Lightning."""
