#!/bin/sh
# Run the program in $0 with the image's Python. Called as `sh -c <this file> <program>`.
for python in python3 python; do
  command -v "$python" >/dev/null 2>&1 && exec "$python" -u -c "$0"
done
echo "kpo_async: this image has no python3 and no python" >&2
exit 127
