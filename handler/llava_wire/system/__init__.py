"""What server and client share besides records: names, forms, files, the machine."""
