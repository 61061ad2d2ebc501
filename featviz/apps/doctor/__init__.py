"""The look before the first picture."""
