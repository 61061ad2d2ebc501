"""Examine a network before the first render: input specification, layers, output."""
