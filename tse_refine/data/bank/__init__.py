"""The clip bank: recordings decoded once, with what their loudness is computed from."""
