"""What requests take, and whether the device has it."""
