"""A stranger's bytes to model input: pictures to pixels, a question to ids."""
