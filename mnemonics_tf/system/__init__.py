"""What the package needs of the machine: files, the screen, other processes."""
