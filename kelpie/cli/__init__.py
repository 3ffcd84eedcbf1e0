"""The command line: arguments in, data on stdout, talk on stderr, an exit code out."""
