"""Feature accentuation: raise an objective from a photograph, and keep an early layer almost the same."""
