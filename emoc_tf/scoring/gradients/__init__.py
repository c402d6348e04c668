"""Gradients of single examples as per-layer factors, and how they are multiplied."""
