"""``python -m tse_refine`` is the same as the console script."""

from tse_refine.cli.main import main

if __name__ == "__main__":
    main()
