"""Is the instrument itself right? Null worlds through the referee's own functions, and null gates on tiny models."""
