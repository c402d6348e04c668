"""Files that are whole or not there: checkpoints, locks, and what a run was made by."""
