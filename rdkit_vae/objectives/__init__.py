"""The training losses, and what other code's losses set."""
