"""Many questions at a time: data read, asked in chunks that several workers share, and kept in a store."""
