#!/bin/sh
# The tests on a real Slurm cluster, on a fresh machine, in one command: sh tests/tools/slurm_tests.sh
# Installs Slurm by apt-get, which needs root, unless it is there; makes an environment of its own, or takes the one of
# $PYTHON; starts a cluster of two nodes of one CPU, both on this machine, and ends it. Nothing in /etc is used.
set -eu
cd "$(dirname "$0")/../.."
PATH=$PATH:/usr/sbin:/sbin
if ! command -v slurmctld >/dev/null || ! command -v slurmd >/dev/null || ! command -v munged >/dev/null; then
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends slurm-wlm munge
fi
folder=$(mktemp -d)
chmod 755 "$folder"
end() {
    scancel --user="$(id -un)" || true
    for daemon in slurmd.one slurmd.two slurmctld munged; do
        if [ -f "$folder/$daemon.pid" ]; then
            pid=$(cat "$folder/$daemon.pid")
            kill "$pid" || true
            while kill -0 "$pid" 2>/dev/null; do sleep 1; done
        fi
    done
    rm -rf "$folder"
}
export SLURM_CONF="$folder/slurm.conf"
trap end EXIT
if [ -z "${PYTHON:-}" ]; then
    python3 -m venv "$folder/venv"
    "$folder/venv/bin/pip" install -q '.[test,slurm]'
    PYTHON=$folder/venv/bin/python
fi

host=$(hostname -s)
head -c 1024 /dev/urandom >"$folder/munge.key"
chmod 400 "$folder/munge.key"
mkdir "$folder/state"
printf 'CgroupPlugin=disabled\n' >"$folder/cgroup.conf"
# KillWait: a job that is ended has no time to do more. SlurmdTimeout: a node that is silent for so long is dead.
cat >"$folder/slurm.conf" <<END
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=26817
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$folder/munge.socket
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool.%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
MpiDefault=none
JobRequeue=1
KillWait=1
ReturnToService=1
SlurmdTimeout=15
NodeName=one NodeHostname=$host NodeAddr=127.0.0.1 Port=26821 CPUs=1
NodeName=two NodeHostname=$host NodeAddr=127.0.0.1 Port=26822 CPUs=1
PartitionName=day Nodes=one,two Default=YES MaxTime=1-0 State=UP
END
munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
    --seed-file="$folder/munged.seed" --log-file="$folder/munged.log"
slurmctld
NODE=one slurmd -N one
NODE=two slurmd -N two
"$PYTHON" -m pytest -m slurm tests/grid/test_slurm.py "$@"
