"""The doors: command line, and the one place where the parts are joined."""
