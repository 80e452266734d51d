"""What pictures are compared in: networks that turn them into features."""
