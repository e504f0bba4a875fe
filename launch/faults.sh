#!/usr/bin/env bash
# Kills, fills, damages: does every run come to what an undisturbed one comes to? Writes docs/faults.md.
# Usage: bash launch/faults.sh [--storage=20] [--whole=10] [--seed=0]     (from any folder)
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" requirements-dev.txt

export TF_CPP_MIN_LOG_LEVEL=3 PYTHONWARNINGS=ignore
PYTHONPATH=. exec "$PYTHON" tests/faults/campaign.py "$@"
