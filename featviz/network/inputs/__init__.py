"""Inputs of networks: their specification, checks and files, and inputs other than images."""
