"""Binaries: `explore` (one run), `compare` (policies × seeds), `report` (figure and table)."""

import os

# TensorFlow's start-up notices would stand between the lines of a run.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
