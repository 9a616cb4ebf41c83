"""The providers that come with Darkroom, one file each."""
