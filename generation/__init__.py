"""MAKES pictures, outside a request. Imports `storage` alone."""
