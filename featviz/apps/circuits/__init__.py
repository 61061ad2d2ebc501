"""Circuits: which units of an earlier layer drive a unit, with the weights between them."""
