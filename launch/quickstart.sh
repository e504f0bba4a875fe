#!/usr/bin/env bash
# Sets everything up and runs the main job on the embedded digits: LUCIR w/ mnemonics, 5 classes, then 5 phases of one.
# Exemplars are learned by matching: a network that knows these classes perfectly gives the paper's objective no gradient.
# Usage: bash launch/quickstart.sh     (from any folder; a second call shows the finished run)
set -euo pipefail
if [ "$#" -gt 0 ]; then echo "quickstart.sh takes no arguments. Received: $*" >&2; exit 2; fi
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

"$PYTHON" -m mnemonics_tf.main --gin_file=configs/lucir_digits.gin --gin_file=configs/memories/matching_digits.gin \
  --output_dir=runs/quickstart
echo && echo "Writing a page on the run ..."
"$PYTHON" -m mnemonics_tf.report runs/quickstart

cat <<END

What to do next (in $PWD, after: source .venv/bin/activate):
  read the report in a browser                          $PWD/runs/quickstart/report/index.html
  look at the learning curves and the learned images    tensorboard --logdir runs/quickstart/tensorboard
  see what the mnemonics add: the base method alone     python -m mnemonics_tf.main --gin_file=configs/lucir_digits.gin --gin_file=configs/base_method.gin
  go on to CIFAR-100                                    python -m mnemonics_tf.main --gin_file=configs/lucir_cifar100_short.gin
END
