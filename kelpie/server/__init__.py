"""The Litestar app and the process that runs it."""
