"""Class probabilities that a network gives to images."""
