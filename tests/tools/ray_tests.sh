#!/bin/sh
# The tests on a real Ray cluster, on a fresh machine, in one command: sh tests/tools/ray_tests.sh
# Makes an environment of its own, installs the suite with Ray, starts two local nodes for each test and ends them.
set -eu
cd "$(dirname "$0")/../.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q '.[test,ray]'
"$folder/venv/bin/python" -m pytest -m ray tests/grid/test_ray.py "$@"
