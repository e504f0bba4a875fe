#!/usr/bin/env bash
# One run by several workers on this machine, each a process of its own: what several machines do, without them.
# Usage: bash launch/local_cluster.sh --gin_file=configs/lucir_digits.gin [further flags of mnemonics_tf.main]
#        WORKERS=3 bash launch/local_cluster.sh ...     for three workers in the place of two
# Works from any folder; relative paths in flags are seen from the project's.
#   Needs     nothing but Python: sets the project's environment up as launch/quickstart.sh does.
#   Devices   GPUs (those of CUDA_VISIBLE_DEVICES, or all) are dealt out evenly. With fewer GPUs than workers, CPUs do
#             the work: workers cannot share a GPU. CPU threads are dealt out too, or by TF_NUM_INTRAOP_THREADS.
#   Output    of worker 0 on the screen, of the others in worker1.log, worker2.log, ...; the first line says where.
#   Result    in --output_dir, runs/<names of the configurations> by default.
#   A death   of one worker ends the others, and its exit code is that of the script. So does Ctrl-C (exit code 130).
#             The same command goes on from the step it was in.
set -euo pipefail
case "${1:-}" in
    -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 0 ;;
    "") echo "local_cluster.sh: expected flags: --gin_file=configs/lucir_digits.gin (see --help)" >&2; exit 2 ;;
esac
WORKERS=${WORKERS:-2}
if ! [[ "$WORKERS" =~ ^([2-9]|[1-9][0-9]{1,2})$ ]]; then
    echo "local_cluster.sh: WORKERS = '$WORKERS': expected a whole number of at least 2." >&2
    exit 2
fi
# A sourced script sees the arguments of this one unless it is given its own; it takes them for requirements.
flags=("$@")
set --
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
set -- "${flags[@]}"

logs=$(mktemp -d "${TMPDIR:-/tmp}/local_cluster.XXXXXX")
# All are taken at once, so that they differ, and let go of at the end.
ports=$("$PYTHON" -c 'import socket, sys
taken = [socket.create_server(("", 0)) for _ in range(int(sys.argv[1]))]
print(*(server.getsockname()[1] for server in taken))' "$WORKERS")
addresses=""
for port in $ports; do addresses+="${addresses:+, }\"127.0.0.1:$port\""; done

if [ -z "${CUDA_VISIBLE_DEVICES+set}" ]; then
    CUDA_VISIBLE_DEVICES=$(nvidia-smi --query-gpu=uuid --format=csv,noheader 2>/dev/null | paste -s -d , -) ||
        CUDA_VISIBLE_DEVICES=""
fi
IFS=, read -r -a gpus <<<"$CUDA_VISIBLE_DEVICES"
if [ "${gpus[0]:-}" = -1 ]; then gpus=(); fi
gpus_each=$((${#gpus[@]} / WORKERS))
cores=$(nproc 2>/dev/null || sysctl -n hw.ncpu)
export TF_NUM_INTRAOP_THREADS=${TF_NUM_INTRAOP_THREADS:-$(((cores + WORKERS - 1) / WORKERS))}

gpus_of() { # worker: its GPUs as CUDA_VISIBLE_DEVICES lists them
    local IFS=,
    if [ "$gpus_each" -eq 0 ]; then echo -1; else echo "${gpus[*]:$1 * gpus_each:gpus_each}"; fi
}

end_all() { # asks those that are left to end, and kills them after five seconds: TensorFlow catches SIGTERM at times
    local pid tick
    trap '' INT TERM HUP # a second Ctrl-C would leave them behind
    for pid in $(jobs -rp); do kill "$pid" 2>/dev/null || true; done
    for ((tick = 0; tick < 50; tick++)); do
        if [ -z "$(jobs -rp)" ]; then break; fi
        sleep 0.1
    done
    for pid in $(jobs -rp); do kill -KILL "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
}

stopped() { # exit code
    end_all
    echo "local_cluster.sh: stopped. The same command goes on from the step it was in." >&3
    exit "$1"
}

pids=()
exec 3>&2
trap 'stopped 130' INT
trap 'stopped 143' TERM
trap 'stopped 129' HUP
echo "$WORKERS workers (each: $gpus_each GPUs, $TF_NUM_INTRAOP_THREADS CPU threads). Worker 0 writes here, others to"
for ((i = 1; i < WORKERS; i++)); do echo "  $logs/worker$i.log"; done
export grpc_proxy="" # workers talk to each other directly, whatever proxy downloads take
for ((i = 0; i < WORKERS; i++)); do
    export TF_CONFIG="{\"cluster\": {\"worker\": [$addresses]}, \"task\": {\"type\": \"worker\", \"index\": $i}}"
    export CUDA_VISIBLE_DEVICES
    CUDA_VISIBLE_DEVICES=$(gpus_of "$i")
    if [ "$i" -eq 0 ]; then
        "$PYTHON" -m mnemonics_tf.main "$@" </dev/null 3>&- &
    else
        "$PYTHON" -m mnemonics_tf.main "$@" </dev/null >"$logs/worker$i.log" 2>&1 3>&- &
    fi
    pids+=("$!")
done

exec 2>/dev/null # Bash would tell of each process that a signal has ended; what is for people goes to 3

# Until all have ended, or one has failed. Where several are found dead at once, one that did not end with 1 came first:
# that is the code of a worker which has lost another.
failed="" failed_code=0 running="some"
while [ -n "$running" ] && [ -z "$failed" ]; do
    sleep 0.2
    running=$(jobs -rp)
    for i in "${!pids[@]}"; do
        case $'\n'"$running"$'\n' in *$'\n'"${pids[i]}"$'\n'*) continue ;; esac
        code=0
        wait "${pids[i]}" || code=$?
        if [ "$code" -ne 0 ] && { [ -z "$failed" ] || { [ "$failed_code" -eq 1 ] && [ "$code" -ne 1 ]; }; }; then
            failed=$i failed_code=$code
        fi
    done
done
if [ -z "$failed" ]; then exit 0; fi

end_all
echo "local_cluster.sh: worker $failed ended with exit code $failed_code, so the others were ended." >&3
if [ -s "$logs/worker$failed.log" ]; then
    echo "The end of $logs/worker$failed.log:" >&3
    tail -n 5 "$logs/worker$failed.log" >&3
fi
if [ "$failed_code" -ne 2 ]; then # 2 is a mistake in the command or the configuration
    echo "The same command goes on from the step it was in." >&3
fi
exit "$failed_code"
