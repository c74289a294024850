"""Nearest neighbours among fixed-point unit vectors."""
