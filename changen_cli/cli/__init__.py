"""Floor 3: the command line. It parses, calls a documented function, and prints."""
