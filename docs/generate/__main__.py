"""`python -m docs.generate` writes every generated part of the reference anew."""

from docs.generate.pages import write

for path in write():
    print(path)
