"""One target per parser of what others wrote: short in the normal suite, for minutes with `make fuzz`."""
