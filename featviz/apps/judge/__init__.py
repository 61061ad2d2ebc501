"""What another network sees in pictures."""
