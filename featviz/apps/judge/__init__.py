"""Classify rendered images by a second, independently trained network."""
