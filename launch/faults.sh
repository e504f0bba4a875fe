#!/usr/bin/env bash
# Kills, fills, damages: does every run come to what an undisturbed one comes to? Writes docs/faults.md.
# Usage: bash launch/faults.sh [--jobs=storage,cuts,digits,folder,files,workers] [--whole=10] [--minutes=60]
#   storage   the folder of a run alone: 488 trials, 3 minutes
#   cuts      power cuts, 20 with a journal and 20 without: 4 minutes; needs mkfs.ext4 and, for loop mounts, to be root
#   digits    whole runs in memory: --whole=10 is 46 states and 4 real SIGKILLs at random moments, 15 states inside
#   folder    writes, 12 faults of disks and 20 damages of each kind; each is half a run and more, of 5 to 10 seconds of
#             one core, so an hour; --minutes ends it earlier
#   files     --files=40 damages of each kind of file, of runs and of what else is loaded: half an hour of one core
#   workers   two workers, of which one is killed, --workers=10 times: a minute each on two cores
# From any folder. Figures are those of an idle machine. The times of digits, folder, files and workers are estimates from
# single trials.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" requirements-dev.txt

export TF_CPP_MIN_LOG_LEVEL=3 PYTHONWARNINGS=ignore
PYTHONPATH=. exec "$PYTHON" tests/faults/campaign.py "$@"
