"""What may be asked about: data as people have it, as items, and the images that they name, wherever these lie."""
