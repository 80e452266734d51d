"""The passes over images that measure a trained model."""
