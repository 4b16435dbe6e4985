"""The shell commands by ``python -m windvane``, for where scripts of packages are not on the path."""

from windvane.cli import main

if __name__ == "__main__":
    main()
