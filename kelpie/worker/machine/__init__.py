"""What a machine can be asked: who it is, and later how to keep it and when it goes."""
