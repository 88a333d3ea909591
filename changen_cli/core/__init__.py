"""Floor 0: data types, recipe, manifest, seeds and errors. Needs only numpy and pydantic."""
