"""A folder of weights to a model that is ready to capture: where it lies, whether it can be served, what it takes."""
