"""SAYS: the GraphQL API, and the processes around it. Imports every other package."""
