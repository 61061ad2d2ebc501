"""Feature accentuation: enhance in a photograph what an objective responds to, and little else."""
