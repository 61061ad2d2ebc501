"""Activations of folders of photographs: read in batches, sampled, stored and laid out."""
