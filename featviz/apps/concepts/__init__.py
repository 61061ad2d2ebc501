"""Concepts: directions of a layer that separate photographs of a concept from others."""
