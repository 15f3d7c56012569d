"""Many questions at a time: asked in chunks that several workers share, and kept in a store."""
