#!/usr/bin/env bash
# One run on a Slurm cluster: by all GPUs of one machine, or of several machines, one task (worker) a machine.
#
# Submit, from the project's folder:
#   one machine     sbatch launch/slurm.sh --gin_file=configs/lucir_imagenet.gin --output_dir=runs/lucir_imagenet
#   four machines   the same with --nodes=4: sbatch --nodes=4 launch/slurm.sh ...
# The package sees by Slurm's variables how many workers there are, and takes all GPUs of each.
#
# Edit: the #SBATCH lines below (GPUs and cores of a machine, partition, account, time).
# Needs: the project's folder, the output_dir and the data (TFDS_DATA_DIR) on a file system that all machines share; the
#   environment, made once where there is internet: bash -c '. launch/environment.sh'
#   and for GPUs: .venv/bin/python -m pip install -r requirements.txt 'tensorflow[and-cuda]'
#   Port 8888 must be free on the machines, which --exclusive sees to. Another: --gin_param='Devices.slurm_port = 9999'
# Result: in the output_dir; what is printed goes to slurm-<job>.out in the folder of submission.
#
# If a machine dies or the job is preempted, Slurm queues it again (--requeue). One minute before the time limit the job
# queues itself again if the run has kept something since it started: a phase, or a snapshot inside of one. If it has not,
# no job of that length gets any further, and it ends. If a worker fails, all are ended and the job fails: see the output,
# and submit the same command. Each time the run goes on from the step it was in. Slurm's SIGTERM, by default 30 seconds
# before it kills (KillWait), lets the run finish that step and keep it; then the run ends with exit code 3.
#SBATCH --job-name=mnemonics
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --mem=0
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@60

set -euo pipefail
# Slurm runs a copy of this file from a folder of its own, so the project is where sbatch was called (or its --chdir).
if ! [ -f launch/environment.sh ]; then
    echo "slurm.sh: $PWD is not the project's folder. Submit from there, or with sbatch --chdir=<that folder>." >&2
    exit 2
fi
output_dir=""
for argument in "$@"; do
    case "$argument" in --output_dir=?*) output_dir=${argument#*=} ;; esac
done
if [ -z "$output_dir" ]; then
    echo "slurm.sh: expected --output_dir=<folder that all machines see>, beside other flags of mnemonics_tf.main." >&2
    exit 2
fi
# Bash expands no ~ behind an =, and mnemonics_tf.main does.
case "$output_dir" in "~" | "~/"*) output_dir=$HOME${output_dir#\~} ;; esac
# A sourced script sees the arguments of this one unless it is given its own; it takes them for requirements.
flags=("$@")
set --
. launch/environment.sh
set -- "${flags[@]}"

kept() { # what the run has kept so far: its phases, and snapshots with their times
    { find "$output_dir/phases" -mindepth 2 -maxdepth 2 \( -name COMPLETE -o -name '*.npz' \) -printf '%p %T@\n' \
        2>/dev/null || true; } | sort
}

at_time_limit() {
    signalled=yes
    if [ "$(kept)" != "$kept_at_start" ]; then
        echo "slurm.sh: the time limit is near. The job is queued again and will go on from the step it was in." >&2
        scontrol requeue "$SLURM_JOB_ID" || echo "slurm.sh: that failed. Submit the same command to go on." >&2
    else
        echo "slurm.sh: the time limit is near, and nothing was kept within it. Submit with a longer --time." >&2
    fi
}

kept_at_start=$(kept)
if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK; fi # srun does not ask sbatch
export grpc_proxy="" # workers talk to each other directly, whatever proxy downloads take
trap at_time_limit USR1
# In the background, for the trap to run at once. A task that fails ends the others: they would only wait for it.
srun --kill-on-bad-exit=1 "$PYTHON" -m mnemonics_tf.main "$@" &
step=$!
signalled=yes
while [ -n "$signalled" ]; do # the signal ends `wait`, not the step
    signalled="" code=0
    wait "$step" || code=$?
done
exit "$code"
