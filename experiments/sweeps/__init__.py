"""Sweeps: what is to be trained, on which machines, and what came out."""
