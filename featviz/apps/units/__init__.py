"""Cards of units: what a unit responds to, a name for it, and how interpretable it is."""
