#!/usr/bin/env bash
# Creates a TPU VM, or asks the queue for one or several slices, and waits until they are ready.
#
# usage: tpu_scripts/create.sh --name NAME --zone ZONE --type TYPE [options]
#
#   --name NAME            of the TPU VM or of the request; every script needs the same
#   --zone ZONE            as us-east5-a
#   --project PROJECT      else gcloud's own
#   --type TYPE            v4-N, v5p-N (N cores), v5e-N or v6e-N (N chips)
#   --version VERSION      runtime version; each generation has a default
#   --spot                 cheaper, and may be taken away at any time
#   --queued               ask the queue instead of failing where nothing is free
#   --slices N             so many slices, joined by the data-centre network; needs --queued
#   --valid-until TIME     how long a request waits in the queue, as 6h or 2d; needs --queued
#   --reserved             from a reservation of the project's
#   --network NAME, --subnetwork NAME, --internal-ips, --service-account EMAIL
#                          handed to gcloud as they are
#   --timeout MINUTES      how long to wait until ready (60; queued: 1440)
#   --poll SECONDS         how often to ask (15)
#   --no-wait              return as soon as the request is made
#   --ssh-via HOW          external (default), internal or iap
#   --settings FILE        options as lines NAME=VALUE
#   --dry-run              print the commands and run nothing
#
# Exit status: 0 ready, 1 not ready (the state is told), 2 a mistake in the options.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
parse "--version --spot! --valid-until --reserved! --network --subnetwork --internal-ips! --service-account
       --timeout --poll --no-wait!" "$@"

queued=${TPU_QUEUED:-false}
: "${TPU_VERSION:=$DEFAULT_VERSION}" "${TPU_POLL:=15}"
if [[ $queued == true ]]; then : "${TPU_TIMEOUT:=1440}"; else : "${TPU_TIMEOUT:=60}"; fi
whole_number --timeout "$TPU_TIMEOUT" 1
whole_number --poll "$TPU_POLL" 0
if [[ -n ${TPU_VALID_UNTIL:-} ]]; then
    [[ $queued == true ]] || fail "--valid-until $TPU_VALID_UNTIL needs --queued: only a request in the queue can wait"
    [[ $TPU_VALID_UNTIL =~ ^[0-9]+[smhd]$ ]] || fail "--valid-until '$TPU_VALID_UNTIL' is no length of time: write 90m or 6h"
fi
if [[ ${TPU_SPOT:-} == true && ${TPU_RESERVED:-} == true ]]; then
    fail "--spot and --reserved exclude each other: leave one of them out"
fi

flags=("${WHERE[@]}" --accelerator-type="$API_TYPE")
for option in network subnetwork service-account; do
    variable=$(variable_of "--$option")
    if [[ -n ${!variable:-} ]]; then flags+=("--$option=${!variable}"); fi
done
for option in spot reserved internal-ips; do
    variable=$(variable_of "--$option")
    if [[ ${!variable:-} == true ]]; then flags+=("--$option"); fi
done

note "$TPU_TYPE: $CHIPS chips on $HOSTS host(s), $TPU_SLICES slice(s)"
if [[ $queued == true ]]; then
    flags+=(--runtime-version="$TPU_VERSION")
    if ((TPU_SLICES > 1)); then
        flags+=(--node-count="$TPU_SLICES" --node-prefix="$TPU_NAME")
    else
        flags+=(--node-id="$TPU_NAME")
    fi
    if [[ -n ${TPU_VALID_UNTIL:-} ]]; then flags+=(--valid-until-duration="$TPU_VALID_UNTIL"); fi
    create=(gcloud compute tpus queued-resources create)
else
    flags+=(--version="$TPU_VERSION")
    create=(gcloud compute tpus tpu-vm create)
fi
run "${create[@]}" "$TPU_NAME" "${flags[@]}" || {
    echo "error: gcloud could not create $TPU_NAME: see its message above, and Troubleshooting in README.md" >&2
    exit 1
}
if [[ ${TPU_NO_WAIT:-} == true ]]; then exit 0; fi

if dry; then
    note "then, every $TPU_POLL s until ready, at most $TPU_TIMEOUT min:"
    if [[ $queued == true ]]; then
        describe queue
        run "${DESCRIBE[@]}"
    fi
    for node in $(nodes); do
        describe "$node"
        run "${DESCRIBE[@]}"
    done
    exit 0
fi

deadline=$((SECONDS + 60 * TPU_TIMEOUT)) told=
while :; do
    state=$(tpu_state)
    if [[ $state != "$told" ]]; then note "$TPU_NAME: $state"; fi
    told=$state
    case $(kind_of_state "$state") in
        ready) exit 0 ;;
        gone)
            echo "error: $TPU_NAME is $state: delete it with delete.sh and create it again" >&2
            exit 1
            ;;
    esac
    if ((SECONDS >= deadline)); then
        echo "error: $TPU_NAME is still $state after $TPU_TIMEOUT min: raise --timeout, or give up with delete.sh" >&2
        exit 1
    fi
    sleep "$TPU_POLL"
done
