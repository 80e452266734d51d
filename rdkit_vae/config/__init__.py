"""What a user asks for: the configuration of one training, grids, and how text is parsed."""
