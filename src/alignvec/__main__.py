"""`python -m alignvec`: the command line as a module, which is what `accelerate launch -m` and `torchrun -m` want."""

from alignvec.cli.app import main

if __name__ == "__main__":
    main()
