"""KEEPS rows and bytes. Imports nothing else of ours."""
