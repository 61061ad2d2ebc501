"""Interpretable embeddings: nearest neighbours, analogies and maps of words, tokens and photographs."""
