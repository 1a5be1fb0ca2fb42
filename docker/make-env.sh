#!/usr/bin/env bash
# make-env.sh: write .env from .env.example with random passwords and keys.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -e .env ]; then
  echo ".env is there already, and is left as it is; move it away to get new passwords" >&2
  exit 1
fi
random() { head -c "$1" /dev/urandom | base64 | tr -d '\n' | tr '+/' '-_'; }

umask 077
while IFS= read -r line; do
  case "$line" in
    AIRFLOW_FERNET_KEY=*) echo "AIRFLOW_FERNET_KEY=$(random 32)" ;;
    AIRFLOW_JWT_SECRET=*) echo "AIRFLOW_JWT_SECRET=$(random 66)" ;;
    [A-Z]*=change-me) echo "${line%%=*}=$(random 24)" ;;
    *) echo "$line" ;;
  esac
done <.env.example >.env.new
mv .env.new .env
echo "wrote .env; the password of Airflow's admin stands in it"
