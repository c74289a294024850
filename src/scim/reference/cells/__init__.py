"""What can be asked of the cells of a reference."""
