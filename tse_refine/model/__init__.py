"""The network: plain ``torch.nn`` modules that know nothing of Lightning."""
