"""Fit dictionaries of features to the activations of a folder of photographs."""
