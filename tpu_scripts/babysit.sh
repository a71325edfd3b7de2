#!/usr/bin/env bash
# Keeps a run going until it has finished: makes the TPU again when it was taken away, and starts the command again, which
# resumes from its checkpoints.
#
# usage: tpu_scripts/babysit.sh --name NAME --zone ZONE --type TYPE [options] -- COMMAND...
#
#   --max-restarts N       give up after so many (20); a recreated TPU and a restarted command count alike
#   --backoff SECONDS      wait before a restart, doubled as long as there is no progress, at most an hour (60)
#   --poll SECONDS         how often to look (60)
#   --give-up-on CODES     exit codes that a restart cannot mend (2,3,28,126,127: a mistake, NaN, a full disk, no such command)
#   --done-file gs://FILE  the run has finished when it exists: looked at before a TPU is made again
#   --keep                 do not delete the TPU when the run has finished or was given up
#   and the options of create.sh, setup.sh and run.sh
#
# What it does about the state of the TPU: on its way, wait; taken away, suspended or failed, delete it; not there, create it,
# set it up, run; unknown (gcloud does not answer), wait. About the command on a ready TPU: running, wait; not started, set up
# and run; exited with 0 on every worker, finished; stopped by stop.sh, end; stopped by the machine or failed, run it again. It
# gives up when a code says that a restart cannot help, and when the command failed twice with the same codes and no
# checkpoint between. Run it where nothing sleeps: in tmux on a small VM, not on a laptop. Started anew, it goes on from
# what it finds.
#
# Exit status: 0 finished, or stopped by stop.sh; 1 given up; 2 a mistake in the options.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
CREATE="--version --spot! --valid-until --reserved! --network --subnetwork --internal-ips! --service-account --timeout"
SETUP="--repo --commit --extras --python --bucket --mount --no-check!"
START="--run --env+ --shared --local-workdir!"
parse "$CREATE $SETUP $START --max-restarts --backoff --poll --give-up-on --done-file --keep!" "$@"

: "${TPU_MAX_RESTARTS:=20}" "${TPU_BACKOFF:=60}" "${TPU_POLL:=60}" "${TPU_GIVE_UP_ON:=2,3,28,126,127}"
whole_number --max-restarts "$TPU_MAX_RESTARTS" 0
whole_number --backoff "$TPU_BACKOFF" 0
whole_number --poll "$TPU_POLL" 0
[[ $TPU_GIVE_UP_ON =~ ^[0-9]+(,[0-9]+)*$ ]] || fail "--give-up-on '$TPU_GIVE_UP_ON' must be exit codes with commas, as 2,3"
[[ -z ${TPU_DONE_FILE:-} || $TPU_DONE_FILE == gs://*/* ]] || fail "--done-file '$TPU_DONE_FILE' must be a file gs://BUCKET/..."
check_run
wanted=("${COMMAND[@]}")
place_workdir # a mistake in it is told now, not after a TPU was paid for

# Every script reads its options from the environment, so each gets what belongs to it.
options="$COMMON $CREATE $SETUP $START"
for option in $options; do
    option=$(tr -d '!+' <<<"$option")
    [[ $option != --help && $option != --settings ]] || continue
    variable=$(variable_of "$option")
    if [[ -n ${!variable:-} ]]; then export "${variable?}"; fi
done

create() { TPU_POLL=$((TPU_POLL < 15 ? TPU_POLL : 15)) "$HERE/create.sh"; }
setup() { "$HERE/setup.sh"; }
start() { "$HERE/run.sh" -- "${wanted[@]}"; }
delete() { "$HERE/delete.sh" --yes; }

if dry; then
    note "not there: create it, set it up, run"
    create
    setup
    start
    note "then, every $TPU_POLL s, the states of the TPU and of the run:"
    if [[ ${TPU_QUEUED:-} == true ]]; then
        describe queue
        run "${DESCRIBE[@]}"
    fi
    for node in $(nodes); do
        describe "$node"
        run "${DESCRIBE[@]}"
    done
    ask_states
    note "taken away: delete it and begin again; failed: run again; at most $TPU_MAX_RESTARTS times"
    delete
    exit 0
fi

restarts=0 pause=$TPU_BACKOFF failed_with="" got_to="" silent=0 partial=0 told="" state=""
due=1 # the next beginning is the first, or was counted already

tell() { # the same thing once
    if [[ $1 != "$told" ]]; then note "$(date -u +%FT%TZ) $1"; fi
    told=$1
}

finish() { # finish STATUS TEXT [keep]
    tell "$2"
    if [[ ${TPU_KEEP:-} == true || ${3:-} == keep ]]; then
        note "$TPU_NAME is kept, and costs until delete.sh"
    elif [[ $(kind_of_state "$state") != missing ]]; then
        delete || note "$TPU_NAME could not be deleted, and costs: run delete.sh"
    fi
    exit "$1"
}

give_up() { # give_up WHY: the logs go with the TPU, so their ends are shown before
    TPU_WORKER=all TPU_SLICE=all TPU_LINES=40 "$HERE/logs.sh" --no-follow || true
    finish 1 "given up: $1"
}

restarting() { # restarting WHY: counts, waits
    if ((restarts >= TPU_MAX_RESTARTS)); then finish 1 "given up: $1, after $restarts restarts (--max-restarts)"; fi
    restarts=$((restarts + 1))
    tell "$1: restart $restarts of $TPU_MAX_RESTARTS in $pause s"
    sleep "$pause"
    pause=$((pause * 2 > 3600 ? 3600 : pause * 2))
    due=1
}

begin() { # begin WHY create|setup: up to the running command; what fails on the way is seen at the next look
    if ((!due)); then restarting "$1"; fi
    due=0
    if [[ $2 == create ]]; then create || return 0; fi
    setup && start || return 0
}

finished_before() { # whether a TPU is not worth making again
    if [[ -n ${TPU_DONE_FILE:-} ]] && gcloud storage ls "$TPU_DONE_FILE" >/dev/null 2>&1; then
        finish 0 "finished: $TPU_DONE_FILE"
    fi
}

progress() { # a number that changes when the run gets on; nothing where there is no workdir to look at
    [[ -n $WORKDIR ]] || return 0
    on_worker 0 0 progress "$WORKDIR" 2>/dev/null | sed -n 's/^.*ebm_jax-progress //p' || true
}

look_at_run() { # the TPU is ready: what about the command?
    local states codes
    if ! states=$(run_states); then
        silent=$((silent + 1))
        tell "the TPU is ready, but not every worker answers"
        if ((silent > 10)); then
            silent=0
            restarting "workers do not answer"
            delete || true
        fi
        return
    fi
    silent=0
    codes=$(awk '$3 != "-" && $3 != 0 {print $3}' <<<"$states" | sort -nu | tr '\n' ' ')
    if ! grep -qv ' exited 0$' <<<"$states"; then
        finish 0 "finished"
    elif ! grep -qv ' none -$' <<<"$states"; then
        begin "the command did not start" setup
    elif [[ -z $codes ]] && ! grep -qE ' (lost|none) ' <<<"$states" && grep -q ' running ' <<<"$states"; then
        partial=0
        tell "running"
    elif ((!partial)) && grep -q ' running ' <<<"$states"; then
        partial=1 # the others usually follow by themselves
    elif grep -q ' stopped ' <<<"$states"; then
        finish 0 "stopped by stop.sh; the same command goes on from its checkpoint" keep
    else
        partial=0
        look_at_failure "$codes"
    fi
}

look_at_failure() { # look_at_failure CODES: nothing runs any more, or only in part
    local now code
    now=$(progress)
    for code in $1; do
        if [[ ,$TPU_GIVE_UP_ON, == *,$code,* ]]; then
            give_up "exit code $code, which a restart does not mend (--give-up-on)"
        fi
    done
    if [[ "${1:-interrupted} $now" == "$failed_with $got_to" ]]; then
        give_up "it failed twice in the same way (${failed_with% }) and wrote no checkpoint between"
    fi
    if [[ $now != "$got_to" ]]; then pause=$TPU_BACKOFF; fi
    failed_with=${1:-interrupted} got_to=$now
    restarting "the command ended with ${failed_with% }"
    due=0
    on_worker all all kill "$TPU_RUN" >/dev/null || true
    start || true
}

while :; do
    state=$(tpu_state)
    case $(kind_of_state "$state") in
        ready) look_at_run ;;
        missing)
            finished_before
            begin "$TPU_NAME is not there" create
            ;;
        gone)
            finished_before
            restarting "$TPU_NAME is $state"
            delete || true
            ;;
        wait)
            due=1
            tell "$TPU_NAME is $state"
            ;;
        unknown) tell "gcloud does not tell the state of $TPU_NAME" ;;
    esac
    sleep "$TPU_POLL"
done
