"""Runs and grids of runs: one after another or side by side, and what a console shows."""
