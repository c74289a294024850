"""Which values of an AnnData are taken, what they are, and how they come to one scale."""
