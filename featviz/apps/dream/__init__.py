"""DeepDream on photographs, zooms and videos."""
