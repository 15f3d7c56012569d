"""TorchServe's Java: found, its files, its process, its memory given back."""
