"""``python -m movinet_edge``, which is also how ``torchrun -m movinet_edge`` starts a command."""

from movinet_edge.cli.main import main

if __name__ == "__main__":
    main()
