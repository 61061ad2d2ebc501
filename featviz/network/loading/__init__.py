"""Load networks by name, with weights from files or downloads."""
