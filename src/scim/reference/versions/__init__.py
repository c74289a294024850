"""Turn segments into a version of a reference."""
