"""Draw the pictures of docs/concepts from stored results and the shipped vectors, all or those that are named."""

import argparse
from pathlib import Path

import behaviour
import weights
from style import ROOT, save

PICTURES = {
    "vector": weights.vector,
    "gate": weights.gate,
    "rounding": weights.rounding,
    "calibration": behaviour.calibration,
    "surface": behaviour.surface,
    "spillover": behaviour.spillover,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PICTURES)}; default: all")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "concepts" / "pictures", help="folder")
    chosen = parser.parse_args()
    if unknown := sorted(set(chosen.names) - PICTURES.keys()):
        parser.error(f"no picture {unknown[0]!r}; have: {', '.join(PICTURES)}")
    for name in chosen.names or PICTURES:
        print(save(PICTURES[name](), chosen.out / f"{name}.png"))
