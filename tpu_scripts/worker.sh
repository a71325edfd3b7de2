#!/usr/bin/env bash
# What the other scripts start on every worker; nobody needs to run it by hand.
#
# usage: worker.sh install EXTRAS [PYTHON]        the environment, in ~/ebm_jax_venv
#        worker.sh mount BUCKET FOLDER            a bucket as a folder, with gcsfuse
#        worker.sh check DEVICES                  whether JAX sees so many devices in all
#        worker.sh start RUN [NAME=VALUE...] -- COMMAND...    in the background, whatever happens to ssh
#        worker.sh status RUN                     one line: ebm_jax-run HOST STATE CODE
#        worker.sh progress FOLDER                a number that changes when checkpoints or results do
#        worker.sh stop RUN | kill RUN            SIGTERM (a checkpoint is written) | SIGKILL
#        worker.sh log RUN LINES [follow] [named]
#
# A run's folder ~/ebm_jax_runs/RUN has its command, pid, state and log. States: none (never started), running, exited, stopped
# (after stop or kill), interrupted (the machine was shut down), lost (it was restarted under the run).

set -euo pipefail

CODE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=${EBM_JAX_VENV:-$HOME/ebm_jax_venv}
RUNS=${EBM_JAX_RUNS:-$HOME/ebm_jax_runs}

fail() {
    echo "error: ${HOSTNAME:-worker}: $1" >&2
    exit 2
}

install() { # install EXTRAS [PYTHON]
    local extras=$1 python=${2:-} candidate
    if [[ ! -x $VENV/bin/python ]]; then
        for candidate in ${python:-python3.13 python3.12 python3.11 python3}; do
            if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
                python=$candidate
                break
            fi
            [[ -z $python ]] || fail "--python $python is not there, is older than 3.11, or lacks venv: leave --python out"
        done
        if [[ -n $python ]]; then
            "$python" -m venv "$VENV"
        else
            # Ubuntu 22.04, which the runtime versions are made of, has Python 3.10.
            python3 -m pip install --quiet --user uv
            python3 -m uv venv --quiet --seed --python 3.12 "$VENV"
        fi
    fi
    "$VENV/bin/python" -m pip install --quiet --editable "${CODE}[$extras]" --constraint "$CODE/constraints.txt"
    echo "$HOSTNAME: $("$VENV/bin/python" --version), jax $("$VENV/bin/python" -c 'import jax; print(jax.__version__)')"
}

mount_bucket() { # mount_bucket BUCKET FOLDER
    if ! mountpoint -q "$2"; then
        if ! command -v gcsfuse >/dev/null; then
            sudo apt-get install --yes --quiet gcsfuse >/dev/null ||
                fail "gcsfuse is neither here nor among the image's packages: see README.md under Storage"
        fi
        sudo mkdir -p "$2"
        sudo chown "$(id -u):$(id -g)" "$2"
        # Checkpoints become visible by renaming their folder.
        gcsfuse --implicit-dirs --rename-dir-limit=200000 "$1" "$2"
    fi
    touch "$2/.ebm_jax_written_by_$HOSTNAME" ||
        fail "gs://$1 cannot be written: give the TPU's service account the role storage.objectUser on it"
    rm -f "$2/.ebm_jax_written_by_$HOSTNAME"
    echo "$HOSTNAME: gs://$1 is $2"
}

check() { # check DEVICES
    cd "$CODE"
    EBM_JAX_COORDINATOR=auto "$VENV/bin/python" - "$1" <<'PYTHON'
import sys

from ebm_jax.parallel.processes import initialize

initialize()
import jax

place = f"process {jax.process_index()} of {jax.process_count()}"
print(f"{place}: {jax.local_device_count()} of {jax.device_count()} devices, {jax.devices()[0].device_kind}", flush=True)
if jax.device_count() != int(sys.argv[1]):
    sys.exit(f"error: {place}: {sys.argv[1]} devices are expected, JAX has {jax.device_count()}")
PYTHON
}

start() { # start RUN [NAME=VALUE...] -- COMMAND...
    local folder=$RUNS/$1 assignments=()
    shift
    while (($#)) && [[ $1 != -- ]]; do
        assignments+=("$1")
        shift
    done
    shift
    mkdir -p "$folder"
    printf '%q ' "${assignments[@]}" "$@" >"$folder/wanted"
    if alive "$folder"; then
        # gcloud repeats a command whose connection broke: the second one finds the first one's run.
        cmp -s "$folder/wanted" "$folder/command" || fail "$folder still runs another command: $(cat "$folder/command")"
        echo "$HOSTNAME: runs already"
        return
    fi
    mv "$folder/wanted" "$folder/command"
    rm -f "$folder/stop" "$folder/pid" "$folder/supervisor"
    boot_id >"$folder/boot"
    echo "running -" >"$folder/state"
    echo "--- $(date -u +%FT%TZ) $HOSTNAME: $(cat "$folder/command")" >>"$folder/log"
    (
        cd "$CODE"
        exec setsid nohup bash "$CODE/tpu_scripts/worker.sh" supervise "$folder" "${assignments[@]}" -- "$@"
    ) </dev/null >>"$folder/log" 2>&1 &
    echo $! >"$folder/supervisor"
    echo "$HOSTNAME: started, log in $folder/log"
}

supervise() { # supervise FOLDER [NAME=VALUE...] -- COMMAND...: runs it and writes down how it ended
    local folder=$1 asked="" woken code child
    shift
    while [[ $1 != -- ]]; do
        export "${1?}"
        shift
    done
    shift
    # Whoever shuts the machine down signals the command too, and a second SIGTERM would end it without a checkpoint.
    trap 'asked=1 woken=1' TERM INT
    export PATH=$VENV/bin:$PATH PYTHONUNBUFFERED=1
    "$@" &
    child=$!
    echo "$child" >"$folder/pid"
    while :; do
        woken=""
        code=0
        wait "$child" || code=$?
        [[ -n $woken ]] || break
    done
    if [[ -e $folder/stop ]]; then
        echo "stopped $code"
    elif [[ -n $asked ]]; then
        echo "interrupted $code"
    else
        echo "exited $code"
    fi >"$folder/state.new"
    mv "$folder/state.new" "$folder/state"
}

boot_id() { cat /proc/sys/kernel/random/boot_id 2>/dev/null || true; }

alive() { # whether a folder's run goes on
    local pid
    [[ -f $1/state && $(cat "$1/state") == running* ]] || return 1
    # Numbers of processes are given out anew after a restart of the machine.
    [[ -f $1/boot && $(cat "$1/boot") == "$(boot_id)" ]] || return 1
    for pid in "$1/supervisor" "$1/pid"; do
        if [[ -s $pid ]] && kill -0 "$(cat "$pid")" 2>/dev/null; then return 0; fi
    done
    return 1
}

status() { # status RUN
    local folder=$RUNS/$1 state="none -"
    if [[ -f $folder/state ]]; then
        state=$(cat "$folder/state")
        if [[ $state == running* ]] && ! alive "$folder"; then
            # It may have ended between the two; its state was written before.
            state=$(cat "$folder/state")
            [[ $state != running* ]] || state="lost -"
        fi
    fi
    echo "ebm_jax-run $HOSTNAME $state"
}

progress() { # progress FOLDER
    find "$1" -maxdepth 5 \( -regex '.*/checkpoints/[0-9]+' -prune -o -name '*.json' ! -name run.json \) -print 2>/dev/null |
        LC_ALL=C sort | cksum | sed 's/ .*//; s/^/ebm_jax-progress /'
}

stop() { # stop RUN SIGNAL
    local folder=$RUNS/$1
    if ! alive "$folder"; then
        status "$1"
        return
    fi
    touch "$folder/stop"
    for _ in {1..50}; do
        [[ ! -s $folder/pid ]] || break
        sleep 0.1 # it is just being started
    done
    # The command alone: its supervisor writes down how it ends, and its children are its own business.
    kill -"$2" "$(cat "$folder/pid")" 2>/dev/null || true
    status "$1"
}

log() { # log RUN LINES [follow] [named]
    local file=$RUNS/$1/log tail=(tail -n "$2")
    [[ -f $file ]] || fail "there is no run called $1; here are: $(cd "$RUNS" 2>/dev/null && echo *)"
    if [[ " $* " == *" follow "* ]]; then tail+=(-F); fi
    if [[ " $* " == *" named "* ]]; then
        "${tail[@]}" "$file" 2>/dev/null | sed -u "s/^/[$HOSTNAME] /"
    else
        "${tail[@]}" "$file" 2>/dev/null
    fi
}

HOSTNAME=${HOSTNAME:-$(hostname)}
case ${1:-} in
    install | check | start | supervise | status | progress | log) "$@" ;;
    mount) mount_bucket "$2" "$3" ;;
    stop) stop "$2" TERM ;;
    kill) stop "$2" KILL ;;
    *) fail "'${1:-}' is none of install, mount, check, start, status, progress, stop, kill, log" ;;
esac
