"""Files, locks and processes: safe wrappers around the operating system."""
