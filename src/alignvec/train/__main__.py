"""`python -m alignvec.train`: the command `alignvec train` as a module, for `accelerate launch -m`."""

import sys

from alignvec.cli.app import main

if __name__ == "__main__":
    sys.argv.insert(1, "train")
    main()
