"""The clip bank: decoded recordings, with the energies that their loudness is computed from."""
