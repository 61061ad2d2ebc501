"""Judge images by a network: crops of them, its class probabilities, and classes that two networks share."""
