"""What several apps share: arguments, activations of photographs, judging, operations, pages, and rendering."""
