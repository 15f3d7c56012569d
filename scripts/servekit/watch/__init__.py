"""What goes on beside a running server: the front kept alive, silent processes ended, word to a service manager."""
