"""What a checkpoint's likelihood is under every interpretation of its variance: pure NumPy."""
