"""What is on disk is whole, and is what was written."""
