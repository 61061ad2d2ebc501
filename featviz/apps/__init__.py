"""Applications on the public packages of featviz: DeepDream, galleries, attribution, circuits and others."""
