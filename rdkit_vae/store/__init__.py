"""Every file that is written or read, and what runs/ holds."""
