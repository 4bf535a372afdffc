"""The front end: HTTP in and out, settings, the command line, and the one place where parts are put together."""
