#!/usr/bin/env bash
# start.sh namenode|datanode: run one server; the NameNode's folder is formatted once.
set -euo pipefail

names="${HDFS_NAMES:-/var/lib/hdfs/name}"
case "${1:-}" in
  namenode)
    if [ ! -e "$names/current/VERSION" ]; then
      hdfs namenode -format -nonInteractive -force
    fi
    ;;
  datanode) ;;
  *)
    echo "start.sh: '${1:-}' is not one of namenode, datanode" >&2
    exit 64
    ;;
esac
exec hdfs "$1"
