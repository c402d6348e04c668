"""Where the runs of a grid are worked on: here one after another, in processes, on Ray."""
