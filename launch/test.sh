#!/usr/bin/env bash
# Sets everything up and checks the project: lint, format, types, tests.
# Usage: bash launch/test.sh [arguments of pytest]     (from any folder)
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" requirements-dev.txt

echo "Lint ..." && "$PYTHON" -m ruff check .
echo "Format ..." && "$PYTHON" -m ruff format --check .
echo "Types ..." && "$PYTHON" -m mypy
# Two processes of tests: tracing, which takes most of their time, keeps one core busy. A file's tests share their runs.
echo "Tests ..." && "$PYTHON" -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder "$@"

echo
echo "All checks passed. What to do next: CONTRIBUTING.md says how the code is laid out and lists the longer checks."
