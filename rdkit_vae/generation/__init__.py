"""How good a model's samples are, under its own prior and under priors fitted to its posteriors."""
