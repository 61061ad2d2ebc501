"""Concepts: directions of a layer that tell photographs of a concept from others."""
