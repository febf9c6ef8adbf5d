"""`python -m thumbs` is `thumbs`."""

from thumbs.cli import main

main(prog_name="thumbs")
