"""Textures of meshes, rendered so that the mesh shows an objective from every side."""
