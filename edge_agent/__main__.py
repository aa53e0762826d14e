"""`packhorse-agent`, also as `python -m edge_agent`."""

import sys

from edge_agent import lean


def main() -> int:
    """Run the command line; `run`, which stays for months, in a process kept small."""
    if sys.argv[1:2] == ["run"]:
        lean.prepare()
    from edge_agent import cli  # noqa: PLC0415 - what it imports depends on the line above

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
