#!/usr/bin/python3 -I
"""Stands for enqueue: keeps what it was given beside itself and exits as the file `exit` there says."""
import os
import sys

here = os.path.dirname(os.path.abspath(__file__))
try:
    code = int(open(f"{here}/exit").read())
except OSError:
    code = 0
if code != 61:   # the real one looks at nothing when it has no spool
    with open(f"{here}/message", "wb") as f:
        f.write(os.read(0, 1 << 30))
    data = b""
    while piece := os.read(1, 65536):
        data += piece
    with open(f"{here}/envelope", "wb") as f:
        f.write(data)
sys.exit(code)
