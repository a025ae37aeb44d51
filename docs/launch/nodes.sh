#!/usr/bin/env bash
# Train on several machines, or on one.  On each of them, the same command:
#   NODES=2 NODE_RANK=0 MASTER=first-machine bash nodes.sh RECIPE --out RUN [any option of resnetkit train]
# NODES      machines (default: 1)              NODE_RANK  0 on the machine that others reach as MASTER
# PROCESSES  of each machine (default: one for each GPU, or one)
# PORT       where the machines meet (default: 29500)
# RETRIES    how often to start again (default: 20)
# A machine that loses the others starts again, and the run goes on from its last state.
set -uo pipefail
processes=${PROCESSES:-$(nvidia-smi --list-gpus 2>/dev/null | wc -l)}
child=
trap '[ -n "$child" ] && kill -TERM "$child"; stopped=143' TERM
trap '[ -n "$child" ] && kill -INT "$child"; stopped=130' INT
for attempt in $(seq 0 "${RETRIES:-20}"); do
    stopped=
    python3 -m torch.distributed.run \
        --nnodes "${NODES:-1}" --node-rank "${NODE_RANK:-0}" --nproc-per-node "$((processes > 0 ? processes : 1))" \
        --master-addr "${MASTER:-127.0.0.1}" --master-port "${PORT:-29500}" --max-restarts 0 \
        -m resnetkit train --auto-resume "$@" &
    child=$!
    wait "$child"
    code=$?
    while kill -0 "$child" 2>/dev/null; do wait "$child"; code=$?; done
    if [ -n "$stopped" ]; then exit "$stopped"; fi
    if [ "$code" = 0 ]; then exit 0; fi
    echo "nodes.sh: attempt $attempt ended with $code; again in ${RETRY_SECONDS:-10} s" >&2
    sleep "${RETRY_SECONDS:-10}"
done
exit 1
