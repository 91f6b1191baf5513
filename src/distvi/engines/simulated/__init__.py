"""A cluster in virtual time, driven by the protocol; with gradients computed for real."""
