"""Faster passes with the same results: batch-norm folding, convolution backward, CUDA graphs."""
