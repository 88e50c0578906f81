"""`python -m mechgate` is the `mechgate` command."""

from mechgate.cli import main

main()
