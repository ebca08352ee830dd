"""Draw the pictures of docs/concepts from shipped vectors and stored results: python docs/pictures/draw.py [NAME]"""

import sys

import behaviour
import weights
from style import save

PICTURES = {
    "vector": weights.vector,
    "gate": weights.gate,
    "rounding": weights.rounding,
    "calibration": behaviour.calibration,
    "surface": behaviour.surface,
    "spillover": behaviour.spillover,
}

if __name__ == "__main__":
    for name in sys.argv[1:] or PICTURES:
        print(save(PICTURES[name](), name))
