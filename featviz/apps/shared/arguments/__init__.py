"""Arguments that several apps take: images, targets, classes, units, layers and output folders."""
