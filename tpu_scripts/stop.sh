#!/usr/bin/env bash
# Asks a run to stop on every worker at once (SIGTERM) and waits until its checkpoint is written. The TPU stays, and costs.
#
# usage: tpu_scripts/stop.sh --name NAME --zone ZONE --type TYPE [options]
#
#   --run NAME          the run (run)
#   --timeout MINUTES   how long to wait for it (15)
#   --poll SECONDS      how often to ask (10)
#   --kill              end it at once, without a checkpoint (SIGKILL)
#   and the common options: --project, --slices, --queued, --ssh-via, --settings, --dry-run (create.sh --help)
#
# Before its first step a run of several processes does not hear SIGTERM: wait until it trains, or use --kill.
# Exit status: 0 nothing runs any more, 1 it still does.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
parse "--run --timeout --poll --kill!" "$@"

check_run_name
: "${TPU_TIMEOUT:=15}" "${TPU_POLL:=10}"
whole_number --timeout "$TPU_TIMEOUT" 1
whole_number --poll "$TPU_POLL" 0
verb="stop"
if [[ ${TPU_KILL:-} == true ]]; then verb="kill"; fi
on_worker all all "$verb" "$TPU_RUN"
note "then, every $TPU_POLL s until none runs, at most $TPU_TIMEOUT min:"
if dry; then
    ask_states
    exit 0
fi
deadline=$((SECONDS + 60 * TPU_TIMEOUT))
while :; do
    if states=$(run_states) && ! grep -q ' running ' <<<"$states"; then
        echo "$states"
        exit 0
    fi
    if ((SECONDS >= deadline)); then
        echo "$states"
        echo "error: $TPU_RUN still runs, or not all answer, after $TPU_TIMEOUT min: see logs.sh, or pass --kill" >&2
        exit 1
    fi
    sleep "$TPU_POLL"
done
