#!/usr/bin/env bash
# Measures what users wait for, in time and memory, against the same work in PyTorch where there is any; prints tables
# and ratios and writes docs/benchmarks.md and docs/benchmarks.json. About an hour on 2 idle cores, and 17 GB of
# memory for all cases: those that need more than is free are left out, and said to be. PyTorch's figures mean nothing on
# a busy machine.
# Usage: bash launch/benchmark.sh [--quick] [--only=group,...] [--output_dir=folder] [--torch_python=python]
#   --quick         fewer cases and rounds; written to runs/benchmark_quick
#   --only          these groups alone; the files keep what they have of the others. Groups:
#                     start           --help, start to first step, a finished run, an absent data set
#                     steps           training steps: plain, LUCIR's with and without weight transfer, iCaRL's
#                     parts           where the time of LUCIR's step goes
#                     evaluation      both classifiers over test images
#                     memory          herding of 25,000 images, coding a memory
#                     phase           a whole later phase of CIFAR-100
#                     classes         seconds of a phase after 50 to 1,000 classes
#                     tracing         what 26 phases spend in tracing, and keep of it
#                     exemplar_level  one meta-step of every engine
#                     numbers         do both frameworks compute the same
#   --output_dir    folder of both files, seen from the project's
#   --torch_python  interpreter of another environment that has PyTorch and NumPy, such as a smaller build for CPUs only;
#                   without it PyTorch is installed beside the project's own requirements
set -euo pipefail
options=("$@")
set -- requirements-benchmark.txt
for argument in ${options[@]+"${options[@]}"}; do
    case "$argument" in
        -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 0 ;;
        --torch_python=?*) set -- ;;
        --quick | --only=?* | --output_dir=?*) ;;
        *) echo "benchmark.sh: unknown option $argument (see --help)" >&2; exit 2 ;;
    esac
done
trap 'echo "benchmark.sh: PyTorch (requirements-benchmark.txt) or what the project needs could not be installed: see above." >&2; exit 2' EXIT
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" "$@"
trap - EXIT

"$PYTHON" launch/benchmarks/run.py ${options[@]+"${options[@]}"}
