"""The process on the interruptible machine: it claims jobs, runs them and keeps their data safe."""
