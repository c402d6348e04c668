"""Active exploration with deep networks by expected model output change (EMOC)."""
