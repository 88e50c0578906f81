"""Speed and memory, side by side with a plain reference in the same run. `make bench`, or `python -m benchmarks NAME`."""
