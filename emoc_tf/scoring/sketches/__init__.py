"""Gradients cut down to their principal directions, for networks that are trained whole."""
