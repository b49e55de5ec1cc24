"""What answers every question with something that is no reading."""

import sys

for _question in sys.stdin:
    sys.stdout.write("no reading\n")
    sys.stdout.flush()
