#!/usr/bin/env bash
# Measures training step and meta-step, time and memory, against the same work in PyTorch; prints tables of ratios and
# writes docs/benchmarks.md and docs/benchmarks.json. Some 15 minutes on 2 idle cores, and 17 GB of memory for all cases:
# those that need more than is free are left out, and said to be. PyTorch's figures mean nothing on a busy machine.
# Usage: bash launch/benchmark.sh [--quick] [--output_dir=folder] [--torch_python=python]     (from any folder)
#   --quick         a few cases and two rounds, 2 to 3 minutes; written to runs/benchmark_quick
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
        --quick | --output_dir=?*) ;;
        *) echo "benchmark.sh: unknown option $argument (see --help)" >&2; exit 2 ;;
    esac
done
trap 'echo "benchmark.sh: PyTorch (requirements-benchmark.txt) or what the project needs could not be installed: see above." >&2; exit 2' EXIT
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" "$@"
trap - EXIT

"$PYTHON" launch/benchmarks/run.py ${options[@]+"${options[@]}"}
