"""What a run leaves: its folder, read back and replayed, and pretrained weights."""
