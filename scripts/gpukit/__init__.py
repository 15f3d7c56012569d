"""Parts of the GPU schedule: what is measured on a machine that may be gone in minutes, and how it is kept."""
