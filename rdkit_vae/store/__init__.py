"""All files that rdvae writes and reads, and the layout of runs/."""
