"""What methods may see of a finished run beside its attention rows."""
