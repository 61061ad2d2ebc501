"""The building blocks of interpretability: one photograph, and what every part of it is to a network."""
