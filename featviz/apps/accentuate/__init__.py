"""Feature accentuation: maximise an objective, starting from a photograph, and keep an early layer almost the same."""
