"""Render many images into a store: batches, backends, and the images of pages."""
