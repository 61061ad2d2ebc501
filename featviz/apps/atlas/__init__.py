"""Activation atlases: pages that lay out what a layer detects in photographs."""
