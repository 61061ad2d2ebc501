"""Cards of units: images, photographs, a name, and how interpretable the unit is."""
