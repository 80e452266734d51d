"""Files that are whole or not at all, locks, and processes: the operating system, made safe."""
