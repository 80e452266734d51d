"""How good a model's samples are, and priors fitted to its posteriors to sample from instead."""
