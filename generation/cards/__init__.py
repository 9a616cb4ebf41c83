"""Designed typographic pictures: what the `card` provider draws."""
