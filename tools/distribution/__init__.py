"""Build the wheel and the sdist, and check them as a user gets them."""
