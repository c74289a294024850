"""What labels cells get, with which probability, and whether they get one."""
