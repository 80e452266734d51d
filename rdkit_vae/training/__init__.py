"""Training: from a configuration and images to weights."""
