"""What others may add, one file each: methods of looking, families of models. Importing it needs no torch."""
