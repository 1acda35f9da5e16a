"""YAML documents: read with the place of every value, and the values, parts and models they are made of."""
