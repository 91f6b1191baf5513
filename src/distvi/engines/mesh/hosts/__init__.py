"""Synchronous training over the devices of several processes, on one host or on many."""
